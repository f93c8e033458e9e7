"""Standing in for the variable that an accessor's name hides.

``ds.flux`` is the accessor, even where ``ds`` has a variable ``flux``. So that code written for the variable goes on
working, the accessor then acts for it: attributes, operators, indexing, iteration, NumPy's protocols; and, as
``isinstance`` takes it for the DataArray, ``assign``, ``apply_ufunc``, ``concat`` and the like.
"""

import operator
from typing import Any

import numpy as np
import xarray as xr


class Shadow:
    """Holds an object and nothing else (xarray caches accessors on the object); acts for its variable ``flux``."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        object.__setattr__(self, "_obj", obj)

    @property
    def _flux(self) -> xr.DataArray | None:
        """The hidden variable, looked up anew each time; of a DataArray it can only be a coordinate."""
        variables = self._obj.variables if isinstance(self._obj, xr.Dataset) else self._obj.coords
        return self._obj["flux"] if "flux" in variables else None

    def _hidden(self, what: str) -> xr.DataArray:
        variable = self._flux
        if variable is None:
            kind = type(self._obj).__name__
            raise TypeError(
                f"{what}: this {kind} has no variable 'flux', and .flux is xflux's accessor, which holds no data; use "
                f"the {kind} itself, or one of {_methods(type(self))}."
            )
        return variable

    @property
    def __class__(self) -> type:
        return type(self) if self._flux is None else xr.DataArray

    def __getattr__(self, name: str) -> Any:
        # Not while unpickling, when there is no object yet.
        variable = self._flux if "_obj" in self.__dict__ else None
        if variable is None:
            raise AttributeError(f".flux has no attribute {name!r}; it has {_methods(type(self))}.")
        return getattr(variable, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._hidden(f"cannot set {name!r}"), name, value)

    def __dir__(self) -> list[str]:
        variable = self._flux
        return sorted({*dir(type(self)), *(dir(variable) if variable is not None else ())})

    def __repr__(self) -> str:
        variable = self._flux
        return f"<{type(self).__name__}: {_methods(type(self))}>" if variable is None else repr(variable)

    def _repr_html_(self) -> str | None:
        variable = self._flux
        return None if variable is None else variable._repr_html_()

    def __format__(self, spec: str) -> str:
        return format(str(self) if self._flux is None else self._flux, spec)

    def __reduce__(self) -> tuple:
        return type(self), (self._obj,)

    def __copy__(self) -> Any:
        variable = self._flux
        return type(self)(self._obj) if variable is None else variable.copy(deep=False)

    def __deepcopy__(self, memo: dict) -> Any:
        variable = self._flux
        return type(self)(self._obj.copy(deep=True)) if variable is None else variable.copy(deep=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._hidden("as an array").values, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*(_revealed(i, ufunc.__name__) for i in inputs), **kwargs)

    def __getitem__(self, key: Any) -> xr.DataArray:
        return self._hidden("indexing")[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._hidden("assignment")[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._hidden("deletion")[key]

    def __iter__(self) -> Any:
        return iter(self._hidden("iteration"))

    def __len__(self) -> int:
        return len(self._hidden("length"))

    def __contains__(self, item: Any) -> bool:
        return item in self._hidden("membership")

    def __bool__(self) -> bool:
        variable = self._flux
        return True if variable is None else bool(variable)

    def __eq__(self, other: Any) -> Any:
        return NotImplemented if self._flux is None else self._flux == _revealed(other, "==")

    def __ne__(self, other: Any) -> Any:
        return NotImplemented if self._flux is None else self._flux != _revealed(other, "!=")

    __hash__ = None  # as DataArray


def _methods(cls: type) -> str:
    return ", ".join(name for name in dir(cls) if not name.startswith("_"))


def _revealed(value: Any, what: str) -> Any:
    return value._hidden(what) if isinstance(value, Shadow) else value


def _forwarded(name: str, function: Any, reflected: bool = False) -> Any:
    """A special method (Python looks these up on the class) that acts on the hidden variable."""

    def method(self: Shadow, *others: Any) -> Any:
        operands = [self._hidden(name), *(_revealed(other, name) for other in others)]
        return function(*(reversed(operands) if reflected else operands))

    method.__name__ = name
    return method


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul")
_UNARY = {"abs": abs, "float": float, "int": int, "complex": complex}

for _name in _BINARY:
    _operator = getattr(operator, f"__{_name}__")
    setattr(Shadow, f"__{_name}__", _forwarded(f"__{_name}__", _operator))
    setattr(Shadow, f"__r{_name}__", _forwarded(f"__r{_name}__", _operator, reflected=True))
    setattr(Shadow, f"__i{_name}__", _forwarded(f"__i{_name}__", getattr(operator, f"__i{_name}__")))
for _name in ("lt", "le", "gt", "ge", "neg", "pos", "invert"):
    setattr(Shadow, f"__{_name}__", _forwarded(f"__{_name}__", getattr(operator, f"__{_name}__")))
for _name, _operator in _UNARY.items():
    setattr(Shadow, f"__{_name}__", _forwarded(f"__{_name}__", _operator))
