"""What a mail program makes of the documents: prints JSON. Arguments: AUTOCONFIG AUTODISCOVER PROFILE (files)."""

import json
import plistlib
import sys
import xml.etree.ElementTree as ET

OUTLOOK = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"


def server(element):
    return {child.tag: child.text for child in element}


config = ET.parse(sys.argv[1]).getroot()
provider = config.find("emailProvider")
response = ET.parse(sys.argv[2]).getroot().find(f"{OUTLOOK}Response")
with open(sys.argv[3], "rb") as file:
    profile = plistlib.load(file)

print(
    json.dumps(
        {
            "domain": provider.findtext("domain"),
            "name": provider.findtext("displayName"),
            "incoming": [server(one) for one in provider.findall("incomingServer")],
            "outgoing": [server(one) for one in provider.findall("outgoingServer")],
            "calendar": config.findtext("calendar/serverURL"),
            "pox": [
                {child.tag.removeprefix(OUTLOOK): child.text for child in one}
                for one in response.iter(f"{OUTLOOK}Protocol")
            ],
            "profile": [
                {key: value for key, value in one.items() if isinstance(value, (str, int, bool))}
                for one in profile["PayloadContent"]
            ],
        }
    )
)
