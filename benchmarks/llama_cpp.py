"""Next-token logits from llama.cpp under a control vector, which its own loader reads: for benchmarks.peers and tests.

Runs where the package xllamacpp is installed (it carries llama.cpp's library) and needs nothing else:
`python benchmarks/llama_cpp.py MODEL.gguf VECTOR.gguf STRENGTH,... IDS.json OUT`. OUT gets float32 numbers: for each
strength and each list of ids, the logits after its last token.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from pathlib import Path

OLDER = "_Z22string_process_escapesRSs"
LOADER = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"


class Blob(ctypes.Structure):
    """Parameters that are only handed on; larger than llama.cpp's, which are passed on the stack."""

    _fields_ = (("content", ctypes.c_char * 4096),)


class Batch(ctypes.Structure):
    _fields_ = (("n_tokens", ctypes.c_int32), *((name, ctypes.c_void_p) for name in "abcdef"))


class Vector(ctypes.Structure):
    """A std::vector."""

    _fields_ = (("start", ctypes.c_void_p), ("stop", ctypes.c_void_p), ("room", ctypes.c_void_p))


class Asked(ctypes.Structure):
    """common_control_vector_load_info: a strength, and a std::string longer than fits in place."""

    _fields_ = (
        *(("strength", ctypes.c_float), ("text", ctypes.c_void_p)),
        *(("n", ctypes.c_size_t), ("room", ctypes.c_size_t * 2)),  # not in GCC's older strings
    )


class Loaded(ctypes.Structure):
    """common_control_vector_data."""

    _fields_ = (("n_embd", ctypes.c_int), ("data", Vector))


def library() -> ctypes.CDLL:
    import xllamacpp

    lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, restype, argtypes in (
        ("llama_model_default_params", Blob, []),
        ("llama_context_default_params", Blob, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Blob]),
        ("llama_init_from_model", pointer, [pointer, Blob]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", number, [pointer]),
        ("llama_model_n_layer", number, [pointer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_batch_get_one", Batch, [pointer, number]),
        ("llama_decode", number, [pointer, Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, number]),
        ("llama_set_adapter_cvec", number, [pointer, pointer, ctypes.c_size_t, number, number, number]),
        (LOADER, Loaded, [ctypes.POINTER(Vector)]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    return lib


def main() -> None:
    model_file, vector_file, strengths, ids_file, out = sys.argv[1:]
    lib = library()
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    lib.llama_log_set(silent, None)
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(model_file.encode(), lib.llama_model_default_params())
    context = lib.llama_init_from_model(model, lib.llama_context_default_params())
    n_words, n_layers = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)), lib.llama_model_n_layer(model)
    name = str(Path(vector_file).absolute()).encode()
    n_name, older = len(name), hasattr(lib, OLDER)
    text = ctypes.create_string_buffer(struct.pack("QQii", n_name, n_name, 1 << 20, 0) + name)  # as older ones lie
    with Path(out).open("wb") as file:
        for strength in map(float, strengths.split(",")):
            asked = Asked(strength, ctypes.addressof(text) + 24, n_name, (n_name, 0))
            at = ctypes.addressof(asked)
            end = at + (Asked.n.offset if older else ctypes.sizeof(asked))
            loaded = getattr(lib, LOADER)(Vector(at, end, end))
            n = (loaded.data.stop - loaded.data.start) // 4
            if loaded.n_embd < 1 or lib.llama_set_adapter_cvec(
                context, loaded.data.start, n, loaded.n_embd, 1, n_layers
            ):
                sys.exit("llama.cpp does not take the control vector")
            for ids in json.loads(Path(ids_file).read_text()):
                lib.llama_memory_clear(lib.llama_get_memory(context), True)
                tokens = (ctypes.c_int32 * len(ids))(*ids)
                if lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(ids))):
                    sys.exit("llama.cpp cannot read the tokens")
                logits = lib.llama_get_logits_ith(context, -1)
                file.write(ctypes.string_at(logits, 4 * n_words))


if __name__ == "__main__":
    main()
