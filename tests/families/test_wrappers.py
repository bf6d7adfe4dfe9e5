"""Names of every family with what training wraps around a model in them, and as they are."""

import pytest
from name_list import NAMES, read_list

from weight_atlas.checkpoint.wrappers import own_names

LISTS = {name: [pattern.replace(".N", ".0") for pattern in read_list(name).rows] for name in NAMES}
WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DDP": lambda name: f"module.{name}",
    "DDP of a compiled model": lambda name: f"module._orig_mod.{name}",
    "a compiled DDP model": lambda name: f"_orig_mod.module.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name}",
    "FSDP of blocks with checkpoints": lambda name: name.replace(".0.", ".0._fsdp_wrapped_module._orig_mod."),
    "compiled blocks": lambda name: name.replace(".0.", ".0._orig_mod."),
    "old FSDP": lambda name: f"_fpw_module.{name}",
    "Lightning's net": lambda name: f"net.{name}",
    "Lightning's compiled net": lambda name: f"net._orig_mod.{name}",
    "Lightning's net in DDP": lambda name: f"module.net.{name}",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_family_are_its_own_whatever_wrapped_it(name):
    names = LISTS[name]
    assert own_names(names, None, name) == names
    for wrapper, change in WRAPPED.items():
        assert own_names([change(each) for each in names], None, name) == names, wrapper


@pytest.mark.parametrize("name", NAMES)
def test_a_model_under_the_attribute_model_is_found_where_its_own_names_tell(name):
    names = LISTS[name]
    found = own_names([f"model.{each}" for each in names], None, name)
    assert found in (names, [f"model.{each}" for each in names])
    if any(each.startswith(("model.", "transformer.", "lm_head.")) for each in names):
        assert found == names
