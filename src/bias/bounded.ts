// The bias of group-relative advantages for continuous rewards on [0, 1] (arXiv 2601.08521, theorem 4). p̂ is the mean reward of
// a group of G, p the expectation of a reward; only groups in the event S_σ count, those with max − min > σ.

import { checkNumber, rangeError } from '../base/check.js';
import { checkGroupSize, powerSum } from './bernoulli.js';
import type { Distribution } from './distribution.js';
import { integrate } from './quadrature.js';

export interface BoundedBias {
  /** P(S_σ). */
  share: number;
  /** E[p̂ | S_σ] − p = A − E[Â | S_σ]: how much lower estimated advantages are than true ones. */
  bias: number;
}

/**
 * Theorem 4 for groups of independent, identically distributed rewards; σ in (0, 1).
 * @throws RangeError if S_σ has no probability in double precision.
 */
export function boundedBias(distribution: Distribution, groupSize: number, sigma: number): BoundedBias {
  checkGroupSize(groupSize);
  checkNumber('sigma', sigma, { above: 0, below: 1 });
  // Of G rewards, with x the least one, the others lie above x, and not all of them below x + σ. With n = G − 1 and, above x
  // and above x + σ, the shares a and t and the moments E[X − p; …] = A and T, between them b = a − t and B = A − T:
  //   P(S_σ) = G ∫ f(x) (a^n − b^n) dx
  //   E[Σ (r − p); S_σ] = G ∫ f(x) [(x − p) (a^n − b^n) + n (A a^(n−1) − B b^(n−1))] dx
  // where the differences of powers have the factor t, so that nothing cancels: a^n − b^n = t Σ a^j b^(n−1−j), and
  // A a^(n−1) − B b^(n−1) = T a^(n−1) + B (a^(n−1) − b^(n−1)).
  const { mean, density, above } = distribution;
  const n = groupSize - 1;
  const parts = (x: number) => {
    const least = above(x);
    const far = above(x + sigma);
    const a = least.share;
    const t = Math.min(a, far.share);
    const b = a - t;
    const T = far.moment - mean * t;
    const B = least.moment - mean * a - T;
    const someFar = t * powerSum(a, b, n);
    return {
      share: someFar,
      sum: (x - mean) * someFar + n * (T * a ** (n - 1) + B * t * powerSum(a, b, n - 1)),
    };
  };
  // A narrow distribution is concentrated at its mean: nodes must be dense there, and where x + σ passes it.
  const cuts = [0, mean - sigma, mean, 1 - sigma].filter((x) => x >= 0 && x <= 1 - sigma).sort((x, y) => x - y);
  const integral = (f: (x: number) => number) =>
    cuts.slice(1).reduce((sum, cut, i) => sum + integrate((x) => density(x) * f(x), cuts[i], cut, 1e-11), 0);
  const share = groupSize * integral((x) => parts(x).share);
  if (!(share > 1e-280)) throw rangeError('sigma', 'a spread that groups of these rewards can have', String(sigma));
  return { share, bias: integral((x) => parts(x).sum) / share };
}
