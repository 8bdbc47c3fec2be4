// Which tokens an entropy quantile keeps.

/**
 * The entropy threshold from which `topQuantile` keeps tokens, given the entropies of all masked-in tokens; −∞ if there are
 * none.
 */
export function entropyThreshold(entropies: readonly number[], topQuantile: number): number {
  const ranked = entropies.filter((entropy) => !Number.isNaN(entropy)).sort((a, b) => a - b);
  // The ⌈(1 − q)(N − 1)⌉-th smallest. The 1e-9 keeps a product that is an integer up to rounding error from being rounded up.
  const rank = Math.max(0, Math.ceil((1 - topQuantile) * (ranked.length - 1) - 1e-9));
  return ranked.length > 0 ? ranked[rank] : -Infinity;
}
