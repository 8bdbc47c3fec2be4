// Which tokens an entropy quantile keeps.

/** The entropy from which `topQuantile` keeps tokens, given those of all masked-in tokens; −∞ of none. */
export function entropyThreshold(entropies: readonly number[], topQuantile: number): number {
  const ranked = entropies.filter((entropy) => !Number.isNaN(entropy)).sort((a, b) => a - b);
  // The ⌈(1 − q)(N − 1)⌉-th smallest. 1e-9 keeps a product that is an integer but for rounding from being rounded up.
  const rank = Math.max(0, Math.ceil((1 - topQuantile) * (ranked.length - 1) - 1e-9));
  return ranked.length > 0 ? ranked[rank] : -Infinity;
}
