// Unbiased estimates from n samples of a prompt, c of them right: the share of subsets of the samples with the property in
// question.

/** The k of pass@k, besides 1. */
export const passes = 8;

/**
 * pass@k: the probability that at least one of k samples is right, 1 − C(n − c, k) / C(n, k) (Chen et al.: "Evaluating large
 * language models trained on code", arXiv 2107.03374, eq. 1). Needs n ≥ k.
 */
export function passAtK(samples: number, right: number, k: number): number {
  return 1 - shareOfSubsets(samples, samples - right, k);
}

/**
 * The probability that a group of G samples has no gradient because all of them are right or all are wrong,
 * (C(c, G) + C(n − c, G)) / C(n, G). Needs n ≥ G.
 */
export function equalGroupProbability(samples: number, right: number, groupSize: number): number {
  return shareOfSubsets(samples, right, groupSize) + shareOfSubsets(samples, samples - right, groupSize);
}

/** The share of the subsets of `size` out of n that lie within m of them: C(m, size) / C(n, size), as a product. */
function shareOfSubsets(n: number, m: number, size: number): number {
  let share = 1;
  for (let i = 0; i < size; i++) share *= Math.max(0, m - i) / (n - i);
  return share;
}
