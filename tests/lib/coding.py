"""Content codings for tests: gzip of Python, brotli and zstd of the system's libraries (which the proxy needs as well)."""
import ctypes
import gzip as _gzip
import zlib


def _call(library, name, *args):
    f = getattr(ctypes.CDLL(library), name)
    f.restype = ctypes.c_size_t
    return f(*args)


def _brotli(data):
    out = ctypes.create_string_buffer(2 * len(data) + 1024)
    n = ctypes.c_size_t(len(out))
    assert _call("libbrotlienc.so.1", "BrotliEncoderCompress", 5, 22, 0, ctypes.c_size_t(len(data)), data, ctypes.byref(n), out)
    return out.raw[:n.value]


def brotli_stream(block, times):
    """The same block so many times, without holding them all."""
    lib = ctypes.CDLL("libbrotlienc.so.1")
    lib.BrotliEncoderCreateInstance.restype = ctypes.c_void_p
    state = ctypes.c_void_p(lib.BrotliEncoderCreateInstance(None, None, None))
    lib.BrotliEncoderSetParameter(state, 1, 2)  # quality
    room, out = ctypes.create_string_buffer(1 << 20), b""
    for i in range(times):
        src, n_in = ctypes.c_char_p(block), ctypes.c_size_t(len(block))
        last = i + 1 == times
        while True:
            dst, n_out = ctypes.c_void_p(ctypes.addressof(room)), ctypes.c_size_t(len(room))
            assert lib.BrotliEncoderCompressStream(state, 2 if last else 0, ctypes.byref(n_in), ctypes.byref(src), ctypes.byref(n_out), ctypes.byref(dst), None)
            out += room.raw[:len(room) - n_out.value]
            if n_in.value == 0 and not lib.BrotliEncoderHasMoreOutput(state):
                break
    lib.BrotliEncoderDestroyInstance(state)
    return out


def _zstd(data):
    out = ctypes.create_string_buffer(2 * len(data) + 1024)
    n = _call("libzstd.so.1", "ZSTD_compress", out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:n]


def _unbrotli(data):
    out = ctypes.create_string_buffer(4 << 20)
    n = ctypes.c_size_t(len(out))
    assert _call("libbrotlidec.so.1", "BrotliDecoderDecompress", ctypes.c_size_t(len(data)), data, ctypes.byref(n), out) == 1
    return out.raw[:n.value]


def _unzstd(data):
    """Also of frames whose size is not in their head."""
    lib = ctypes.CDLL("libzstd.so.1")

    class Buffer(ctypes.Structure):
        _fields_ = [("p", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]
    lib.ZSTD_createDStream.restype = ctypes.c_void_p
    lib.ZSTD_decompressStream.restype = ctypes.c_size_t
    z = ctypes.c_void_p(lib.ZSTD_createDStream())
    room = ctypes.create_string_buffer(4 << 20)
    src = Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
    dst = Buffer(ctypes.cast(room, ctypes.c_void_p), len(room), 0)
    assert lib.ZSTD_decompressStream(z, ctypes.byref(dst), ctypes.byref(src)) == 0
    lib.ZSTD_freeDStream(z)
    return room.raw[:dst.pos]


# content-encoding -> (library in messages, its message, encode, decode of a whole body)
CODINGS = {
    "gzip": ("gzip", "Gzip", _gzip.compress, lambda b: zlib.decompress(b, 31)),
    "br": ("brotli", "Brotli", _brotli, _unbrotli),
    "zstd": ("zstd", "Zstd", _zstd, _unzstd),
}


def encode(coding, data):
    return CODINGS[coding][2](data)


def decode(coding, data):
    return CODINGS[coding][3](data)


def library(coding, what, name="lib", **fields):
    """A compressor_library or decompressor_library (what: compressor, decompressor)."""
    folder, message, _, _ = CODINGS[coding]
    return {"name": name, "typed_config": {
        "@type": f"type.googleapis.com/envoy.extensions.compression.{folder}.{what}.v3.{message}", **fields}}


def stat(coding, what, name="lib"):
    """http.in.compressor.lib.gzip."""
    return f"http.in.{what}.{name}.{CODINGS[coding][0]}."
