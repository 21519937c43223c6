"""A device that is not there: tensors that say `pretend:0`, compute on the CPU, and refuse to meet those of the host.

`register()` once a process, before anything moves to `pretend`. It cannot be undone, so tests use processes of their
own. What holds on it is what CUDA demands: all tensors of an operation are on one device, but for scalars (tensors of
no dimension) and indices of the host; a tensor reaches NumPy only over `.cpu()`. `waits` counts the calls for which
the host would wait until the device has computed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
ATEN = torch.ops.aten

# Operations that take tensors of two devices.
_COPIES = {ATEN._to_copy.default, ATEN.copy_.default, ATEN._copy_from.default, ATEN._copy_from_and_resize.default}
_INDEXED = {
    *(ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default),
    *(ATEN._unsafe_index.Tensor, ATEN._index_put_impl_.default, ATEN._unsafe_index_put.default),
}
# Operations whose result has a size, or is a number, that only the device knows.
_WAITED_FOR = {ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.equal.default, ATEN.masked_select.default}

# (name of the thread, name of the operation) -> how often.
waits: Counter[tuple[str, str]] = Counter()

_library: list[torch.library.Library] = []


class _Backend(backend_registration._DummyBackendModule):  # type: ignore[misc]
    """What torch asks of a device's module; nothing is drawn on this one."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass

    def synchronize(self, device: Any = None) -> None:
        pass


class DeviceMixError(RuntimeError):
    """An operation was given tensors of the host and of the device."""


class Pretended(Tensor):
    """A tensor of the device; `inner` holds its values on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Pretended:
        outer = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        outer.inner = inner
        return outer

    def __repr__(self, **kwargs: Any) -> str:
        return f"{self.inner!r} on {NAME}"

    def tolist(self) -> Any:
        _wait(ATEN._local_scalar_dense.default)
        return self.inner.tolist()

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts))

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **given: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=given.get("device", self.device))

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(function, args, kwargs or {})


def register() -> None:
    """Makes `torch.device("pretend")` a device of this process."""
    if _library:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
    _library.append(library)
    torch.tensor, torch.as_tensor = map(_by_way_of_the_host, (torch.tensor, torch.as_tensor))


def _by_way_of_the_host(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` and its like: torch has no path from Python's numbers to a device that Python defines."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != NAME:
            return make(data, *args, device=device, **kwargs)
        return data.to(device) if isinstance(data, Pretended) else make(data, *args, **kwargs).to(device)

    return made


def _run(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An operation on the CPU's values, with its results on the device."""
    ours = {id(leaf.inner): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Pretended)}
    if ours:
        _check(function, args, kwargs)
    if function in _WAITED_FOR or (function in _INDEXED and any(map(_is_mask, _indices(args)))):
        _wait(function)
    inner_args, inner_kwargs = tree_map(_inner, (tuple(args), dict(kwargs)))
    result = function(*inner_args, **inner_kwargs)
    if function is ATEN._to_copy.default and _leaves(kwargs.get("device")):
        _wait(function)
        return result
    if function is ATEN.copy_.default and not isinstance(args[0], Pretended):
        _wait(function)
        return args[0]
    return tree_map(lambda leaf: _outer(leaf, ours), result)


def _check(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises a `DeviceMixError` for tensors of the host with a dimension, where they may not be."""
    if function in _COPIES:
        return
    checked = (args[0], *args[2:]) if function in _INDEXED else args
    for leaf in tree_leaves((checked, kwargs)):
        if isinstance(leaf, Tensor) and not isinstance(leaf, Pretended) and leaf.ndim > 0:
            shapes = [
                f"{tuple(tensor.shape)} on {tensor.device.type}"
                for tensor in tree_leaves((args, kwargs))
                if isinstance(tensor, Tensor)
            ]
            raise DeviceMixError(f"{function} of {', '.join(shapes)}")
    if function in _INDEXED and not isinstance(args[0], Pretended):
        raise DeviceMixError(f"{function}: a tensor of the host with indices of the device")


def _indices(args: Sequence[Any]) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor))


def _is_mask(index: Tensor) -> bool:
    return isinstance(index, Pretended) and index.dtype == torch.bool


def _leaves(device: Any) -> bool:
    """Whether a copy to a device goes to the host."""
    return device is not None and torch.device(device).type == "cpu"


def _wait(function: Callable[..., Any]) -> None:
    waits[threading.current_thread().name, str(function)] += 1


def _inner(leaf: Any) -> Any:
    if isinstance(leaf, Pretended):
        return leaf.inner
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == NAME else leaf


def _outer(leaf: Any, ours: Mapping[int, Pretended]) -> Any:
    """A result on the device; an operation in place returns the tensor that it was given."""
    if not isinstance(leaf, Tensor):
        return leaf
    return ours[id(leaf)] if id(leaf) in ours else Pretended(leaf)
