// The entropy term and its quantile (docs/losses.md, "Entropy term"), from the entropies of all tokens.

import { entropyThreshold } from '../entropy.js';
import type { TokenPlan } from '../plan.js';

export interface EntropyTerm {
  loss: number;
  /** ∂loss/∂H, B*T; 0 at tokens that are masked out or not kept. */
  derivative: Float64Array;
  /** Over all masked-in tokens. */
  mean: number;
  /**
   * κ of entropy.topQuantile: the tokens whose entropy is at least the threshold; null keeps all. A row without an entropy
   * (NaN) is neither ranked nor kept: metrics.nonFinite reports it.
   */
  kept: readonly boolean[] | null;
}

/** −coefficient · Σ κ H / max(Σ κ, 1). */
export function entropyTerm(plan: TokenPlan, entropies: Float32Array | Float64Array): EntropyTerm {
  const { coefficient, tokens, topQuantile, threshold: given } = plan.loss.entropy;
  const rows = Array.from(entropies.keys()).filter((row) => plan.mask === null || plan.mask[row] !== 0);
  let kept: boolean[] | null = null;
  if (topQuantile !== 1) {
    const among = rows.map((row) => entropies[row]);
    const threshold = Number.isNaN(given) ? entropyThreshold(among, topQuantile) : given;
    kept = Array.from(entropies, (entropy) => entropy >= threshold);
  }
  const keptRows = kept === null ? rows : rows.filter((row) => kept[row]);
  const denominator = Math.max(Number.isNaN(tokens) ? keptRows.length : tokens, 1);
  const sum = (of: readonly number[]) => of.reduce((total, row) => total + entropies[row], 0);

  const derivative = new Float64Array(entropies.length);
  for (const row of keptRows) derivative[row] = (0 - coefficient) / denominator;
  return {
    loss: coefficient === 0 ? 0 : (-coefficient * sum(keptRows)) / denominator,
    derivative,
    mean: rows.length > 0 ? sum(rows) / rows.length : 0,
    kept,
  };
}
