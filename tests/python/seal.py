"""Seals words as NSS does for a profile without master password. Arguments: the profile's folder, then the words."""

import base64
import ctypes
import sys


class Item(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint), ("data", ctypes.c_void_p), ("length", ctypes.c_uint)]


nss = ctypes.CDLL("libnss3.so")
assert nss.NSS_InitReadWrite(b"sql:" + sys.argv[1].encode()) == 0, "no such profile"
for word in sys.argv[2:]:
    text = word.encode()
    default_key, sealed = Item(), Item()
    clear = Item(0, ctypes.cast(ctypes.create_string_buffer(text), ctypes.c_void_p), len(text))
    status = nss.PK11SDR_Encrypt(ctypes.byref(default_key), ctypes.byref(clear), ctypes.byref(sealed), None)
    assert status == 0, "not sealed"
    print(base64.b64encode(ctypes.string_at(sealed.data, sealed.length)).decode())
