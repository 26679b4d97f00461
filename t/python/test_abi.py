"""What the package declares of the library is what the headers say."""

import ctypes
import os
import re
import unittest

from symm import _dlpack, _errors, _library, _tensor

INCLUDE = os.path.join(os.environ["top_srcdir"], "include", "symm")
C_TYPES = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "const char *": ctypes.c_char_p,
    "const int *": ctypes.POINTER(ctypes.c_int),
    "const int64_t *": ctypes.POINTER(ctypes.c_int64),
    "DLDataType": _dlpack.DLDataType,
    "const struct symm_options *": ctypes.POINTER(_library.Options),
    "struct symm_stats *": ctypes.POINTER(_library.Stats),
    "const struct symm_alloc_options *": ctypes.POINTER(_library.AllocOptions),
    "struct symm_device_view *": ctypes.POINTER(_library.DeviceView),
    "struct symm_sync_words *": ctypes.POINTER(_library.SyncWords),
    "DLManagedTensorVersioned *": ctypes.POINTER(_dlpack.DLManagedTensorVersioned),
    "const DLManagedTensorVersioned *": ctypes.POINTER(_dlpack.DLManagedTensorVersioned),
    "DLManagedTensorVersioned **": ctypes.POINTER(ctypes.POINTER(_dlpack.DLManagedTensorVersioned)),
    "const DLManagedTensorVersioned *const *": ctypes.POINTER(ctypes.POINTER(_dlpack.DLManagedTensorVersioned)),
    "void": None,
}


def header(name):
    with open(os.path.join(INCLUDE, name), encoding="utf-8") as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)


def ctype(declaration):
    """Of "const char *name"."""
    kind = re.sub(r"\w+$", "", declaration.strip()).strip()
    if kind in C_TYPES:
        return C_TYPES[kind]
    return ctypes.POINTER(ctypes.c_void_p) if kind.endswith("**") else ctypes.c_void_p


def functions():
    text = re.sub(r"\s+", " ", "".join(header(name) for name in ("symm.h", "tensor.h", "view.h")))
    for kind, name, arguments in re.findall(r"SYMM_API ([\w ]+?\*?(?: ?const ?\*)?) ?(symm_\w+)\(([^)]*)\);", text):
        yield name, kind.strip(), [] if arguments == "void" else arguments.split(", ")


def fields(struct, file="symm.h"):
    """Of "uint64_t first, second;" both."""
    body = re.search(r"struct %s \{(.*?)\};" % struct, header(file), re.S)[1]
    for line in filter(None, map(str.strip, body.split(";"))):
        for name in re.findall(r"\w+(?=,|$)", line):
            yield name, ctype(line.split(",")[0])


class Abi(unittest.TestCase):
    def test_functions(self):
        declared = {name: (kind, arguments) for name, kind, arguments in functions()}
        for name, (result, arguments) in _library.PROTOTYPES.items():
            with self.subTest(name):
                kind, want = declared[name]
                self.assertEqual(arguments, [ctype(argument) for argument in want])
                self.assertEqual(result, ctype(f"{kind} {name}"))

    def test_structs(self):
        self.assertEqual(list(fields("symm_options")), _library.Options._fields_)
        self.assertEqual(list(fields("symm_alloc_options")), _library.AllocOptions._fields_)
        self.assertEqual(list(fields("symm_stats")), _library.Stats._fields_)
        self.assertEqual(list(fields("symm_device_view", "view.h")), _library.DeviceView._fields_)
        # The one table that the host reads.
        words = {**dict(fields("symm_sync_words", "view.h")), "slots": ctypes.POINTER(ctypes.c_void_p)}
        self.assertEqual(list(words.items()), _library.SyncWords._fields_)

    def test_codes(self):
        found = {int(code): name for name, code in re.findall(r"(SYMM_E\w+) = (-\d+)", header("symm.h"))}
        self.assertEqual(found, {code: name for code, (name, _) in _errors._CODES.items()})

    def test_numbers(self):
        text = header("symm.h")
        self.assertEqual(_library.CHANNELS, int(re.search(r"SYMM_CHANNELS (\d+)", text)[1]))
        self.assertEqual(_library.AUTO, int(re.search(r"SYMM_AUTO \((-\d+)\)", text)[1]))
        versions = {name: int(number) for name, number in re.findall(r"SYMM_(\w+_VERSION) (\d+)", header("view.h"))}
        for name in ("DEVICE_VIEW_VERSION", "SYNC_WORDS_VERSION"):
            self.assertEqual(getattr(_library, name), versions[name])

    def test_dtypes(self):
        codes = dict(
            re.findall(r"kDL(\w+) = (\d+)", header("dlpack.h").split("DLDataTypeCode")[0].split("DLDevice;")[1])
        )
        names = {
            "int": "Int",
            "uint": "UInt",
            "float": "Float",
            "bfloat": "Bfloat",
            "complex": "Complex",
            "bool": "Bool",
        }
        for name, (code, bits) in _tensor._DTYPES.items():
            with self.subTest(name):
                stem = re.match(r"[a-z]+", name)[0]
                self.assertEqual(code, int(codes["F" + name[1:] if "_" in name else names[stem]]))
                self.assertEqual(bits, int((re.findall(r"^[a-z]+(\d+)", name) or [8])[0]))
