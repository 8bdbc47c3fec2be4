// Schulman's estimators of KL(policy ‖ reference) from one sample (joschu.net/blog/kl-approx.html), times the importance ratio ρ
// if they are importance-weighted. Formulas: docs/losses.md, "KL term".

import type { LossPlan } from '../settings.js';
import type { Limit } from './float32.js';
import { meanOrZero, type SequenceRatios } from './ratio.js';

/** The KL term of the masked-in tokens of one sequence, before β; every array has one entry per token. */
export interface KlTerms {
  /** ρ k. */
  value: number[];
  /** ∂(Σ value)/∂ℓ, including all paths through ρ. */
  gradient: number[];
  /** Whether a token's gradient includes terms from the whole sequence. */
  shared: boolean;
}

/** One token's value and the parts of its gradient. */
interface TokenKl {
  value: number;
  /** ∂value/∂ℓ with ρ held fixed. */
  own: number;
  /** own + value, without the terms that cancel in that sum: ∂value/∂ℓ where ρ moves with ℓ. */
  total: number;
  /** value = exponential + rest, with all that grows like e^d in `exponential`; own = −exponential if the clamp is not active. */
  exponential: number;
  rest: number;
}

/** `logProbs`, `refLogProbs` and `oldLogProbs` are those of the sequence's masked-in tokens. */
export function klTerms(
  { kl, ratio }: LossPlan,
  logProbs: readonly number[],
  refLogProbs: readonly number[],
  oldLogProbs: readonly number[],
  ratios: SequenceRatios,
  limit: Limit,
): KlTerms {
  const weighted = kl.importanceWeighted;
  const tokens = logProbs.map((logProb, t) => {
    const d = refLogProbs[t] - logProb;
    const c = Math.min(Math.max(d, -kl.logRatioClamp), kl.logRatioClamp);
    if (!weighted) return tokenKl(kl.estimator, d, c, 0, c, limit);
    const log = ratios.log[t];
    // If neither clamp is active, (ℓ − ℓ°) + (ℓʳ − ℓ).
    const direct = ratio === 'token' && ratios.logSlope[t] === 1 && c === d;
    return tokenKl(kl.estimator, d, c, log, direct ? refLogProbs[t] - oldLogProbs[t] : log + c, limit);
  });
  // An active clamp of the log-ratio stops the gradient through ρ.
  const flows = ratios.logSlope.map((slope) => weighted && slope === 1);
  const shared = ratio === 'sequence' && flows[0];
  const gradient = shared ? sharedGradient(tokens) : tokens.map(({ own, total }, t) => (flows[t] ? total : own));
  return { value: tokens.map(({ value }) => limit(value)), gradient: gradient.map(limit), shared };
}

/**
 * For tokens that share ρ, which depends on each of them with weight 1/n: own + the mean of all values. Exponentials, which may
 * be far larger than their differences, are compared with the first one, so that equal ones cancel exactly.
 */
function sharedGradient(tokens: readonly TokenKl[]): number[] {
  const shift = tokens[0].exponential;
  const exponential = meanOrZero(tokens.map((token) => token.exponential - shift));
  const rest = meanOrZero(tokens.map((token) => token.rest));
  return tokens.map(({ own }) => exponential + (shift + own) + rest);
}

/** The estimate of one token, without weights and clamps; `logRatio` = ℓʳ − ℓ. */
export function klEstimate(estimator: LossPlan['kl']['estimator'], logRatio: number): number {
  return tokenKl(estimator, logRatio, logRatio, 0, logRatio, (x) => x).value;
}

/** `d` = ℓʳ − ℓ, `c` the same clamped, ρ = exp(`log`), `exponent` = log + c. */
function tokenKl(
  estimator: LossPlan['kl']['estimator'],
  d: number,
  c: number,
  log: number,
  exponent: number,
  limit: Limit,
): TokenKl {
  const exp = (x: number) => limit(Math.exp(x));
  const ratio = exp(log);
  const cut = c < d || c > d; // not for NaN
  const token = (value: number, own: number, total: number, exponential: number): TokenKl => ({
    value,
    own: cut ? 0 : own,
    total: cut ? value : total,
    exponential,
    rest: estimator === 'k3' ? times(ratio, -c) : value,
  });
  switch (estimator) {
    case 'k1':
      return token(times(ratio, -c), ratio, times(ratio, 1 - d), 0);
    case 'k2':
      return token(times(ratio, (c * c) / 2), times(ratio, -d), times(ratio, (d * (d - 2)) / 2), 0);
    case 'k3': {
      // ρ (e^c − 1): one form cancels near 0, the other overflows before the product does.
      const exponential = c < 1 ? times(ratio, Math.expm1(c)) : difference(exp(exponent), ratio);
      const value =
        Math.abs(c) < 1 ? times(ratio, exponentialRemainder(c)) : difference(exp(exponent), times(ratio, c + 1));
      return token(value, -exponential, times(ratio, -d), exponential);
    }
  }
}

/** ρ x, and 0 where x is 0 although ρ has overflowed. */
function times(ratio: number, x: number): number {
  return x === 0 && ratio === Infinity ? 0 : ratio * x;
}

/** a − b for the larger a: if a has overflowed, so has the difference. */
function difference(a: number, b: number): number {
  return a === Infinity ? a : a - b;
}

/** e^x − x − 1 for |x| < 1, where that form cancels: its series x²/2 + x³/6 + …, until it no longer changes. */
function exponentialRemainder(x: number): number {
  let sum = 0;
  let term = (x * x) / 2;
  for (let n = 3; sum + term !== sum; n++) {
    sum += term;
    term *= x / n;
  }
  return sum;
}
