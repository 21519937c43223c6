"""Linear imputation (`imputation.py`) of many masks at once on a device: conjugate gradients on a multigrid.

The system of the hidden pixels is symmetric and positive definite, a diagonal less couplings of adjacent pixels:

    (A z)_p = d_p z_p - sum_q w_pq z_q

A large hole couples pixels that are far apart, for which conjugate gradients alone take hundreds of steps. Each step
is preconditioned by a V-cycle on grids whose cells are blocks of 2 x 2 cells of the next finer grid; a coarse system
adds up the equations and the couplings of its blocks (Braess, Towards algebraic multigrid for elliptic problems of
second order, Computing 1995), so that every grid has couplings of adjacent cells only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

RESIDUAL = 1e-9  # of the right side, where iteration ends
MOST_STEPS = 500
# The host waits for the device when it looks at the residual: from this step on, and after so many more each time.
_FIRST_LOOK, _LOOK_EVERY = 12, 4

# Half of the neighbours, by rows and columns away, and the weights of their couplings.
_AWAY = ((0, 1), (1, 0), (1, 1), (1, -1))
_WEIGHTS = (1 / 6, 1 / 6, 1 / 12, 1 / 12)
_DAMPING = 0.8
# Blocks of constant value are too stiff: the coarse correction is lengthened (Braess).
_LENGTHENED = 1.8
_SMALLEST = 4  # cells of a side of the coarsest grid
_SWEEPS = 8  # on the coarsest grid


@dataclass(frozen=True)
class _Grid:
    """A system on a grid.

    Attributes:
        diagonal: (n, 1, h, w), 0 for a cell without a hidden pixel.
        couplings: for each of `_AWAY` (n, 1, h, w), of each cell with the one so far away; 0 where there is none.
        inverse: of the diagonal, 0 where that is 0.
    """

    diagonal: Tensor
    couplings: tuple[Tensor, ...]
    inverse: Tensor

    def times(self, values: Tensor) -> Tensor:
        """(n, C, h, w), A z."""
        result = self.diagonal * values
        for (down, right), coupling in zip(_AWAY, self.couplings, strict=True):
            here, there = _pair(values.shape[-2:], down, right)
            along = coupling[(..., *here)]
            result[(..., *here)] -= along * values[(..., *there)]
            result[(..., *there)] -= along * values[(..., *here)]
        return result

    def coarser(self) -> _Grid:
        """The system of the blocks of 2 x 2 cells."""
        height, width = self.diagonal.shape[-2:]
        even = partial(pad, pad=(0, width % 2, 0, height % 2))
        diagonal, (east, south, south_east, south_west) = even(self.diagonal), map(even, self.couplings)
        # A cell of a block, by row and column in it.
        at = {(i, j): (..., slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)}
        inside = east[at[0, 0]] + east[at[1, 0]] + south[at[0, 0]] + south[at[0, 1]]
        inside = inside + south_east[at[0, 0]] + south_west[at[0, 1]]
        # The diagonal to the lower left begins in the next block.
        next_block = pad(south_west[at[0, 0]], (0, 1, 0, 0))[..., 1:]
        return _grid(
            sum(diagonal[place] for place in at.values()) - 2 * inside,
            (
                east[at[0, 1]] + east[at[1, 1]] + south_east[at[0, 1]] + next_block,
                south[at[1, 0]] + south[at[1, 1]] + south_east[at[1, 0]] + south_west[at[1, 1]],
                south_east[at[1, 1]],
                south_west[at[1, 0]],
            ),
        )


def impute_all(images: Tensor, hidden: Tensor) -> Tensor:
    """Images with their hidden pixels imputed; it holds about 20 more tensors of their size meanwhile.

    Args:
        images: (n, C, H, W) float64.
        hidden: (n, H, W) bool, each with a visible pixel at least; on the same device.

    Returns:
        (n, C, H, W) float64; visible pixels are untouched.

    Raises:
        ArithmeticError: no solution to `RESIDUAL` in `MOST_STEPS`.
    """
    mask = hidden[:, None]
    known = torch.where(mask, 0.0, images)
    fine = _of_pixels(mask)
    everywhere = _of_pixels(torch.ones_like(mask[:1]))
    right_side = torch.where(mask, -everywhere.times(known), 0.0)
    # It starts from the mean of the visible pixels, which is near where nearly all pixels are hidden.
    start = torch.where(mask, known.sum(dim=(2, 3), keepdim=True) / (~mask).sum(dim=(2, 3), keepdim=True), 0.0)
    return torch.where(mask, _solved(fine, right_side, start), images)


def _of_pixels(mask: Tensor) -> _Grid:
    """The system of the hidden pixels of masks (n, 1, H, W)."""
    total, values = torch.zeros_like(mask, dtype=torch.float64), mask.double()
    couplings = []
    for (down, right), weight in zip(_AWAY, _WEIGHTS, strict=True):
        here, there = _pair(mask.shape[-2:], down, right)
        coupling = torch.zeros_like(values)
        coupling[(..., *here)] = weight * values[(..., *here)] * values[(..., *there)]
        couplings.append(coupling)
        total[(..., *here)] += weight
        total[(..., *there)] += weight
    return _grid(total * values, tuple(couplings))


def _grid(diagonal: Tensor, couplings: tuple[Tensor, ...]) -> _Grid:
    # What rounding leaves of a block without hidden pixels, or that has no way out, is no equation.
    return _Grid(diagonal, couplings, torch.where(diagonal > 1e-12, 1 / diagonal, 0.0))


def _pair(shape: torch.Size, down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The cells that have a neighbour so far away, and these neighbours."""
    height, width = shape
    here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
    there = slice(down, height), slice(max(0, right), width + min(0, right))
    return here, there


def _hierarchy(fine: _Grid) -> list[_Grid]:
    grids = [fine]
    while max(grids[-1].diagonal.shape[-2:]) > _SMALLEST:
        grids.append(grids[-1].coarser())
    return grids


def _solved(fine: _Grid, right_side: Tensor, start: Tensor) -> Tensor:
    """(n, C, H, W), z of A z = right side by preconditioned conjugate gradients, each plane on its own."""
    grids = _hierarchy(fine)
    solution, residual = start.clone(), right_side - fine.times(start)
    bound = RESIDUAL * _dot(right_side, right_side).sqrt()
    direction, old = torch.zeros_like(start), torch.ones_like(bound)
    for step in range(MOST_STEPS):
        looks = step >= _FIRST_LOOK and (step - _FIRST_LOOK) % _LOOK_EVERY == 0
        if looks and bool((_dot(residual, residual).sqrt() <= bound).all()):
            return solution
        corrected = _cycle(grids, residual)
        new = _dot(residual, corrected)
        direction = corrected + _ratio(new, old if step else torch.zeros_like(new)) * direction
        image = fine.times(direction)
        length = _ratio(new, _dot(direction, image))
        solution += length * direction
        residual -= length * image
        old = new
    raise ArithmeticError(f"imputation did not converge in {MOST_STEPS} steps")


def _cycle(grids: list[_Grid], residual: Tensor) -> Tensor:
    """A V-cycle from 0: about A^-1 of the residual, symmetric and positive definite."""
    grid, *coarser = grids
    weights = _DAMPING * grid.inverse
    values = weights * residual
    if not coarser:
        for _ in range(_SWEEPS - 1):
            values = values + weights * (residual - grid.times(values))
        return values
    left = residual - grid.times(values)
    height, width = left.shape[-2:]
    padded = pad(left, (0, width % 2, 0, height % 2))
    blocks = padded[..., 0::2, :] + padded[..., 1::2, :]
    correction = _cycle(coarser, blocks[..., 0::2] + blocks[..., 1::2])
    spread = correction.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)[..., :height, :width]
    values = values + _LENGTHENED * torch.where(grid.inverse > 0, spread, 0.0)
    return values + weights * (residual - grid.times(values))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(n, C, 1, 1)."""
    return (first * second).sum(dim=(2, 3), keepdim=True)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """0 where a plane is solved to the last bit."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
