// Schulman's estimators of KL(policy ‖ reference) from one sample (joschu.net/blog/kl-approx.html).

import type { KlEstimator } from '../settings.js';

/** The estimate k and its derivative with respect to ℓ. */
export function klEstimate(estimator: KlEstimator, logProb: number, refLogProb: number): { k: number; slope: number } {
  const d = refLogProb - logProb;
  switch (estimator) {
    case 'k1':
      return { k: -d, slope: 1 };
    case 'k2':
      return { k: (d * d) / 2, slope: -d };
    case 'k3':
      return { k: exponentialRemainder(d), slope: -Math.expm1(d) };
  }
}

/** e^d − 1 − d. The difference cancels for small d: there its series, cut where the next term is below 1e-16 of the sum. */
function exponentialRemainder(d: number): number {
  if (Math.abs(d) >= 1e-2) return Math.expm1(d) - d;
  return d * d * (1 / 2 + d * (1 / 6 + d * (1 / 24 + d * (1 / 120 + d * (1 / 720 + d / 5040)))));
}
