// The surrogates: one function each, from the masked-in tokens of one sequence to their losses and derivatives.
// Formulas: docs/losses.md, "Surrogate". To add one, add its fields to src/loss/config.ts and its function here.

import type { Limit } from './float32.js';

/** The masked-in tokens of one sequence; every array has one entry per token. */
export interface SequenceTokens {
  /** ℓ. */
  logProb: number[];
  /** The token's own log-ratio ℓ − ℓ°, clamped to ±logRatioClamp. */
  delta: number[];
  /** ∂delta/∂ℓ: 1, or 0 where the clamp is active. */
  deltaSlope: number[];
  /** The configured ratio; the same at every token if it is sequence-level. */
  ratio: number[];
  /** A. */
  advantage: number[];
  /** Token weight; 1 if there are none. */
  weight: number[];
  /** False where the surrogate is 0 by definition, whatever the ratio: A = 0, or a dropped token. */
  live: boolean[];
  limit: Limit;
}

/** A surrogate's result; every array has one entry per token. */
export interface SurrogateTerms {
  /** The token's loss. */
  value: number[];
  /** ∂(Σ value)/∂(log of the token's `ratio`). */
  byLogRatio: number[];
  /** ∂(Σ value)/∂ℓ without the paths through the ratio and through `shared`. */
  byLogProb: number[];
  /** ∂(Σ value)/∂ℓ through a quantity of the whole sequence. */
  shared?: number[];
  /** VESPO's weight φ. */
  phi?: number[];
}

type SurrogateFunction = (tokens: SequenceTokens, parameters: Float64Array) => SurrogateTerms;

/** `parameters` are in the order of surrogateFields in src/loss/config.ts. */
export const surrogates = {
  clip: eachToken(clip),
  cispo: eachToken(cispo),
  sapo: eachToken(sapo),
  gmpo,
  vespo,
  reinforce: eachToken(reinforce),
} satisfies Record<string, SurrogateFunction>;

export type SurrogateKind = keyof typeof surrogates;

/** Loss and derivatives of one token, before its weight. */
interface TokenTerms {
  value: number;
  byLogRatio: number;
  byLogProb: number;
}

/** A surrogate whose token losses depend only on their own token. */
function eachToken(
  formula: (ratio: number, advantage: number, logProb: number, parameters: Float64Array) => TokenTerms,
): SurrogateFunction {
  return (tokens, parameters) => {
    const terms = zeroTerms(tokens.logProb.length);
    for (let t = 0; t < tokens.logProb.length; t++) {
      if (!tokens.live[t] || tokens.weight[t] === 0) continue;
      const token = formula(tokens.ratio[t], tokens.advantage[t], tokens.logProb[t], parameters);
      terms.value[t] = tokens.weight[t] * tokens.limit(token.value);
      terms.byLogRatio[t] = tokens.weight[t] * tokens.limit(token.byLogRatio);
      terms.byLogProb[t] = tokens.weight[t] * tokens.limit(token.byLogProb);
    }
    return terms;
  };
}

function zeroTerms(count: number): SurrogateTerms {
  const zeros = () => new Array<number>(count).fill(0);
  return { value: zeros(), byLogRatio: zeros(), byLogProb: zeros() };
}

/** Lower bound first, then upper bound; NaN stays NaN. */
function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/**
 * −min(min(ρ, max) A, clip(ρ, 1 − low, 1 + high) A): PPO (arXiv 1707.06347, eq. 7), clip-higher (DAPO, arXiv 2503.14476,
 * section 3.1), `max` bounds the unclipped branch (INTELLECT-2's δ, arXiv 2505.07291); `dual` bounds the loss by −dual·A for
 * A < 0 (arXiv 1912.09729, eq. 5). ∂ρ/∂(log ρ) = ρ.
 */
function clip(ratio: number, advantage: number, _logProb: number, [low, high, max, dual]: Float64Array): TokenTerms {
  if (Number.isNaN(ratio) || Number.isNaN(advantage)) return { value: NaN, byLogRatio: NaN, byLogProb: 0 };
  const unclipped = Math.min(ratio, max) * advantage;
  const clipped = clamp(ratio, 1 - low, 1 + high) * advantage;

  let value: number;
  let moves: boolean; // whether the chosen branch depends on the ratio
  if (unclipped <= clipped) {
    value = -unclipped;
    moves = ratio <= max;
  } else {
    value = -clipped;
    moves = ratio >= 1 - low && ratio <= 1 + high;
  }
  if (advantage < 0 && value > -dual * advantage) {
    value = -dual * advantage;
    moves = false;
  }
  return { value, byLogRatio: moves ? -ratio * advantage : 0, byLogProb: 0 };
}

/** −sg(clip(ρ, 1 − low, high)) A ℓ: CISPO (MiniMax-M1, arXiv 2506.13585, eq. 4–5). */
function cispo(ratio: number, advantage: number, logProb: number, [high, low]: Float64Array): TokenTerms {
  const coefficient = clamp(ratio, 1 - low, high);
  return { value: -coefficient * advantage * logProb, byLogRatio: 0, byLogProb: -coefficient * advantage };
}

/** −(4/τ) σ(τ (ρ − 1)) A: SAPO (arXiv 2511.20347); τ by the sign of A. */
function sapo(ratio: number, advantage: number, _logProb: number, [positive, negative]: Float64Array): TokenTerms {
  const tau = advantage > 0 ? positive : negative;
  // σ(x) and σ(−x) = 1 − σ(x), each without cancellation; σ'(x) = σ(x) σ(−x).
  const gate = 1 / (1 + Math.exp(-tau * (ratio - 1)));
  const closed = 1 / (1 + Math.exp(tau * (ratio - 1)));
  // σ' falls faster than ρ grows; at ρ = ∞ the product is 0, not ∞·0.
  const slope = ratio === Infinity ? 0 : gate * closed * ratio;
  return { value: (-4 / tau) * gate * advantage, byLogRatio: -4 * slope * advantage, byLogProb: 0 };
}

/** −A ℓ: REINFORCE (Williams 1992). */
function reinforce(_ratio: number, advantage: number, logProb: number): TokenTerms {
  return { value: -advantage * logProb, byLogRatio: 0, byLogProb: -advantage };
}

/**
 * −A_t exp(S), S = Σ_t c_t / n the mean of the log-ratios, each clipped on the side that would profit from its advantage: GMPO
 * (arXiv 2507.20673, eq. 4). It uses its own log-ratios, whatever the configured ratio is.
 */
function gmpo(tokens: SequenceTokens, [low, high]: Float64Array): SurrogateTerms {
  const count = tokens.logProb.length;
  const terms = zeroTerms(count);
  const shared = new Array<number>(count).fill(0);
  const clippedSlope: number[] = []; // ∂c_t/∂ℓ_t
  let sum = 0;
  for (let t = 0; t < count; t++) {
    const delta = tokens.delta[t];
    const advantage = tokens.advantage[t];
    let clipped = 0; // c = s min(s δ, s clip(δ, −low, high)), s = sgn(A)
    let cut = true;
    if (advantage > 0) {
      clipped = Math.min(delta, high);
      cut = delta > high;
    } else if (advantage < 0) {
      clipped = Math.max(delta, -low);
      cut = delta < -low;
    } else if (Number.isNaN(advantage)) {
      clipped = NaN;
      cut = false;
    }
    sum += clipped;
    clippedSlope.push(cut ? 0 : tokens.deltaSlope[t]);
  }
  const geometricMean = tokens.limit(Math.exp(sum / Math.max(count, 1)));

  let total = 0;
  for (let t = 0; t < count; t++) {
    if (!tokens.live[t] || tokens.weight[t] === 0) continue;
    terms.value[t] = -tokens.weight[t] * tokens.limit(tokens.advantage[t] * geometricMean);
    total += terms.value[t];
  }
  // ∂ exp(S)/∂ℓ_t = exp(S) ∂c_t/∂ℓ_t / n, and every token's loss holds exp(S).
  for (let t = 0; t < count; t++) {
    if (clippedSlope[t] !== 0) shared[t] = (total * clippedSlope[t]) / count;
  }
  return { ...terms, shared };
}

/**
 * −sg(φ) A ℓ, φ = exp(λ + k log v − λ v), v the sequence's importance weight, including the token weights: VESPO (arXiv
 * 2602.10693), with TRL's bounds on the logarithms. (k, λ) by the sign of A.
 */
function vespo(
  tokens: SequenceTokens,
  [kPositive, lambdaPositive, kNegative, lambdaNegative]: Float64Array,
): SurrogateTerms {
  const smallest = Math.log(1e-8);
  const count = tokens.logProb.length;
  const terms = zeroTerms(count);
  let logSum = 0;
  for (let t = 0; t < count; t++) {
    logSum += clamp(tokens.delta[t], -20, 20) + clamp(Math.log(tokens.weight[t]), smallest, 20);
  }
  const logV = clamp(logSum, smallest, 20);

  terms.phi = tokens.advantage.map((advantage) => {
    const k = advantage >= 0 ? kPositive : kNegative;
    const lambda = advantage >= 0 ? lambdaPositive : lambdaNegative;
    return tokens.limit(Math.exp(lambda + k * logV - lambda * Math.exp(logV)));
  });
  for (let t = 0; t < count; t++) {
    if (!tokens.live[t]) continue;
    terms.byLogProb[t] = -tokens.limit(terms.phi[t] * tokens.advantage[t]);
    terms.value[t] = terms.byLogProb[t] * tokens.logProb[t];
  }
  return terms;
}
