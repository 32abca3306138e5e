"""Determinants, factors and solutions of equations.

np.linalg.cholesky takes a complex matrix for a Hermitian one, and log|det| is real: neither is
analytic, so the complex step does not apply to them.
"""

import numpy as np

from zoo.case import Case

REAL = ("central", "taylor")


def log_det(A):
    """log det S, S = A Aᵀ + I."""
    L = np.linalg.cholesky(A @ A.T + np.eye(len(A)))
    return 2 * np.log(np.diag(L)).sum(), (A, L)


def log_det_backward(dy, cache):
    A, L = cache
    dA = dy * 2 * np.linalg.solve(L.T, np.linalg.solve(L, A))  # 2 S⁻¹ A
    return (dA,)


LOG_DET = Case(
    "log-determinant by Cholesky",
    log_det,
    log_det_backward,
    lambda rng: (rng.standard_normal((5, 6)),),
    {
        "sign": ("dy * 2", "-dy * 2"),
        "factor": ("dy * 2", "dy"),
        "transposed": ("solve(L.T,", "solve(L,"),
        "missing term": ("np.linalg.solve(L, A)", "A"),
        "stale cache": ("solve(L, A)", "solve(L @ L.T, A)"),
        "1 % off": ("dy * 2", "dy * 2.02"),
    },
    REAL,
)


def cholesky(A):
    """S = L Lᵀ, S = A Aᵀ + I."""
    L = np.linalg.cholesky(A @ A.T + np.eye(len(A)))
    return L, (A, L)


def cholesky_backward(dL, cache):
    """S̄ = L⁻ᵀ Φ(Lᵀ L̄) L⁻¹ (Murray 2016, arXiv:1602.07527)."""
    A, L = cache
    P = np.tril(L.T @ dL)
    P -= np.diag(np.diag(P)) / 2  # Φ: the lower triangle, the diagonal halved
    L_inv = np.linalg.inv(L)
    dS = L_inv.T @ P @ L_inv
    dA = (dS + dS.T) @ A
    return (dA,)


CHOLESKY = Case(
    "Cholesky factor",
    cholesky,
    cholesky_backward,
    lambda rng: (rng.standard_normal((5, 7)),),
    {
        "sign": ("P -= np", "P += np"),
        "factor": ("P -= np.diag(np.diag(P)) / 2", ""),
        "missing diagonal": (" / 2", ""),
        "transposed": ("L.T @ dL", "L @ dL"),
        "missing term": ("(dS + dS.T)", "2 * dS"),
        "wrong triangle": ("np.tril", "np.triu"),
        "stale cache": ("P @ L_inv", "P @ L"),
        "1 % off": ("dA = (dS", "dA = 1.01 * (dS"),
    },
    REAL,
)


def log_abs_det(A):
    return np.linalg.slogdet(A)[1], A


def log_abs_det_backward(dy, A):
    return (dy * np.linalg.inv(A).T,)


LOG_ABS_DET = Case(
    "log|det|",
    log_abs_det,
    log_abs_det_backward,
    # well conditioned, with a negative determinant
    lambda rng: (rng.standard_normal((6, 6)) + 4 * np.eye(6)[::-1],),
    {
        "sign": ("(dy *", "(-dy *"),
        "factor": ("(dy *", "(2 * dy *"),
        "transposed": ("inv(A).T", "inv(A)"),
        "missing inverse": ("np.linalg.inv(A)", "A"),
        "det for log det": ("(dy *", "(dy * np.linalg.det(A) *"),
        "1 % off": ("(dy *", "(1.01 * dy *"),
    },
    REAL,
)


def solve(A, b):
    x = np.linalg.solve(A, b)
    return x, (A, b, x)


def solve_backward(dx, cache):
    A, b, x = cache
    db = np.linalg.solve(A.T, dx).reshape(b.shape)
    dA = -db @ x.T
    return dA, db


SOLVE = Case(
    "linear solve",
    solve,
    solve_backward,
    lambda rng: (rng.standard_normal((5, 5)) + 4 * np.eye(5), rng.standard_normal((5, 3))),
    {
        "sign": ("-db", "db"),
        "factor": ("-db", "-db / 2"),
        "transposed": ("(A.T, dx)", "(A, dx)"),
        "transposed product": ("-db @ x.T", "-x @ db.T"),
        "missing term": ("np.linalg.solve(A.T, dx)", "dx"),
        "stale cache": ("-db @ x.T", "-db @ b.T"),
        "1 % off": ("-db", "-1.01 * db"),
    },
)


def fixed_point(x, U, W, b):
    """z = tanh(z W + x U + b), by iteration."""
    z, a = np.zeros((len(x), len(b))), x @ U + b
    for _ in range(40):
        z = np.tanh(z @ W + a)
    return z, (x, U, W, z)


def fixed_point_backward(dz, cache):
    """da = s (dz + da Wᵀ) at the fixed point: for each row, (I - diag(s) W) daᵀ = (s dz)ᵀ."""
    x, U, W, z = cache
    s = 1 - z**2
    M = np.eye(len(W)) - s[:, :, None] * W
    da = np.linalg.solve(M, (s * dz)[:, :, None])[:, :, 0]
    return da @ U.T, x.T @ da, z.T @ da, da.sum(axis=0)


FIXED_POINT = Case(
    "fixed point",
    fixed_point,
    fixed_point_backward,
    lambda rng: (
        rng.standard_normal((3, 2)),
        rng.standard_normal((2, 5)),
        0.1 * rng.standard_normal((5, 5)),  # a contraction
        rng.standard_normal(5),
    ),
    {
        "sign": ("np.eye(len(W)) - s", "np.eye(len(W)) + s"),
        "factor": ("(s * dz)", "(2 * s * dz)"),
        "transposed": ("None] * W", "None] * W.T"),
        "missing term": (" - s[:, :, None] * W", ""),
        "wrong axis": ("s[:, :, None] * W", "s[:, None, :] * W"),
        "missing square": ("1 - z**2", "1 - z"),
        "stale cache": ("1 - z**2", "1 - np.tanh(x @ U) ** 2"),
        "1 % off": ("z.T @ da", "1.01 * z.T @ da"),
    },
)


def quadratic(x, A):
    return x @ A @ x, (x, A)


def quadratic_backward(dy, cache):
    x, A = cache
    dx = dy * (A + A.T) @ x
    dA = dy * np.outer(x, x)
    return dx, dA


QUADRATIC = Case(
    "quadratic form",
    quadratic,
    quadratic_backward,
    lambda rng: (rng.standard_normal(7), rng.standard_normal((7, 7))),
    {
        "sign": ("A + A.T", "A - A.T"),
        "factor": ("dA = dy", "dA = dy / 2"),
        "missing term": ("(A + A.T)", "A"),
        "as if symmetric": ("(A + A.T)", "2 * A"),
        "missing upstream": ("dA = dy * ", "dA = "),
        "stale cache": ("np.outer(x, x)", "np.outer(x, A @ x)"),
        "1 % off": ("dA = dy", "dA = 1.01 * dy"),
    },
)

CASES = (LOG_DET, CHOLESKY, LOG_ABS_DET, SOLVE, FIXED_POINT, QUADRATIC)
