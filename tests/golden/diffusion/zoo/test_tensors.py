import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from golden.diffusion.zoo.tensors import read_tensors

pytestmark = pytest.mark.golden


def test_floats_and_metadata(tmp_path):
    tensors = {str(kind): np.arange(6, dtype=kind).reshape(2, 3) for kind in ("float16", "float32", "float64")}
    safetensors.numpy.save_file(tensors, tmp_path / "one.safetensors", {"made": "here"})
    metadata, found = read_tensors(tmp_path / "one.safetensors")
    assert metadata == {"made": "here"} and found.keys() == tensors.keys()
    for kind, value in tensors.items():
        assert found[kind].dtype == kind and np.array_equal(found[kind], value)


@pytest.mark.parametrize(
    "kind, size", [("F8_E4M3", 1), ("F8_E5M2", 1), ("BF16", 2), ("I8", 1), ("I64", 8), ("BOOL", 1)]
)
def test_other_types_are_refused_by_name(tmp_path, kind, size):
    # the format itself: length of the header, header, data
    header = json.dumps({"w": {"dtype": kind, "shape": [1], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "one.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with pytest.raises(ValueError, match=f"^Parameter 'w' must be stored as F16 or F32 or F64, not {kind}, in '"):
        read_tensors(path)


def test_what_is_no_file_of_tensors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^Weights must be in '.*', which does not exist$"):
        read_tensors(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"^Weights must be in '.*', which is no file$"):
        read_tensors(tmp_path)
    (tmp_path / "some").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"^Weights must be a safetensors file, not '.*some': "):
        read_tensors(tmp_path / "some")
