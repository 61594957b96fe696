"""Talks to /ws through the gateway. Arguments: URL CA HOST COOKIE."""

import asyncio
import socket
import ssl
import sys

import aiohttp
from aiohttp.abc import AbstractResolver

URL, CA, HOST, COOKIE = sys.argv[1:5]


class Loopback(AbstractResolver):
    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self):
        pass


async def main():
    connector = aiohttp.TCPConnector(resolver=Loopback(), ssl=ssl.create_default_context(cafile=CA))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.ws_connect(URL, headers={"Cookie": COOKIE, "Origin": HOST}) as ws:
            print((await ws.receive(30)).data)
            await ws.send_str("bonjour")
            print((await ws.receive(30)).data)
            blob = bytes(range(256)) * 4096
            await ws.send_bytes(blob)
            received = (await ws.receive(30)).data
            print("same bytes" if received == blob else f"{len(received)} other bytes")
            await ws.close()
            print("closed", ws.close_code)


asyncio.run(main())
