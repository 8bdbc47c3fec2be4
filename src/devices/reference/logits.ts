// The loss from logits: log-probs, entropies, loss, metrics, and the gradient with respect to the logits.
// Formulas: docs/losses.md, "Entropy" and before. A row is the V logits of one token.

import type { LogitsBackwardPlan, LogitsLayout, LogitsPlan, Metrics } from '../plan.js';
import { fromBfloat16, toBfloat16 } from './bfloat16.js';
import { entropyTerm } from './entropy.js';
import { fromFloat16, toFloat16 } from './float16.js';
import { isFiniteFloat32 } from './float32.js';
import { countLoss, isIn, type PolicyTerms, policyTerms, resolveAdvantages } from './policy.js';

export function logitsLoss(plan: LogitsPlan): { loss: number; metrics: Metrics; accuracy?: number } {
  const { accuracy, advantages, metrics: advantageMetrics } = resolveAdvantages(plan);
  const offendingLogits = fillLogProbsAndEntropies(plan);
  // From here on log-probs and entropies are read back as they were written, so that passing the log-probs on as oldLogProbs
  // gives a ratio of exactly 1, and a threshold computed from the entropies keeps the same tokens.
  const entropy = entropyTerm(plan, plan.entropies);
  const policy = policyTerms(plan, plan.logProbs, advantages, plan.gradLogits === null ? 0 : 1, entropy.kept);
  const overflows = plan.gradLogits === null ? 0 : fillGradient(plan, plan.gradLogits, policy, entropy.derivative);

  const loss = policy.loss + entropy.loss;
  const computed = countLoss(policy.metrics.nonFinite + offendingLogits, loss) + overflows;
  const nonFinite = computed + (advantageMetrics.nonFinite ?? 0);
  const metrics: Metrics = { ...advantageMetrics, ...policy.metrics, loss, nonFinite };
  if (plan.metrics) metrics.entropy = entropy.mean;
  return { loss, accuracy, metrics };
}

/** softmax(z) of one row, z = logits / temperature. */
interface RowStatistics {
  /** log Σ exp(z); NaN for a row without a distribution: one with a NaN or +∞, or with only −∞. */
  logSumExp: number;
  /** −Σ p log p, in nats. */
  entropy: number;
  /** Number of logits that are the cause. */
  nonFinite: number;
}

const identity = (value: number) => value;
/** Converts a logit from its bits, and back. */
const read = { float32: identity, bfloat16: fromBfloat16, float16: fromFloat16 } as const;
const write = { float32: identity, bfloat16: toBfloat16, float16: toFloat16 } as const;

/** Reads the row into `z`, divided by the temperature. */
function readRow(plan: LogitsLayout, row: number, z: Float64Array): void {
  const start = row * plan.rowStride;
  for (let j = 0; j < plan.vocab; j++) {
    z[j] = read[plan.dtype](plan.logits[start + j]) / plan.temperature;
  }
}

function rowStatistics(z: Float64Array): RowStatistics {
  // The maximum starts at −∞, not at 0: all logits may be very negative.
  let max = -Infinity;
  let broken = 0;
  for (const value of z) {
    if (Number.isNaN(value) || value === Infinity) broken += 1;
    if (value > max) max = value;
  }
  if (max === -Infinity && broken === 0) broken = z.length;
  if (broken > 0) return { logSumExp: NaN, entropy: NaN, nonFinite: broken };

  let sum = 0;
  for (const value of z) sum += Math.exp(value - max);
  const logSumExp = max + Math.log(sum);

  let entropy = 0;
  for (const value of z) {
    const p = Math.exp(value - logSumExp);
    if (p > 0) entropy -= p * (value - logSumExp); // p log p = 0 where p = 0, although log p = −∞
  }
  return { logSumExp, entropy, nonFinite: 0 };
}

/**
 * Writes plan.logProbs and plan.entropies; returns the number of non-finite logits, not counting one that the log-prob already
 * shows.
 */
function fillLogProbsAndEntropies(plan: LogitsPlan): number {
  const z = new Float64Array(plan.vocab);
  let nonFinite = 0;
  for (let row = 0; row < plan.tokens.length; row++) {
    plan.logProbs[row] = 0;
    plan.entropies[row] = 0;
    if (!isIn(plan, row)) continue;
    readRow(plan, row, z);
    const statistics = rowStatistics(z);
    const logProb = z[plan.tokens[row]] - statistics.logSumExp;
    plan.logProbs[row] = logProb;
    plan.entropies[row] = statistics.entropy;
    nonFinite += Math.max(0, statistics.nonFinite - 1);
  }
  return nonFinite;
}

/** ∂loss/∂ℓ of each row, and whether float32 holds it. */
type ByLogProb = Pick<PolicyTerms, 'gradient' | 'finite'>;

/**
 * Writes ∂loss/∂x_j = (g ∂ℓ/∂z_j + c ∂H/∂z_j) / T, times the loss scale, with g = ∂loss/∂ℓ, c = ∂loss/∂H, and, for the token a of the row,
 * ∂ℓ/∂z_j = [j = a] − p_j and ∂H/∂z_j = −p_j (log p_j + H). 0 at masked tokens, at tokens without a gradient, and in the columns
 * beyond the vocabulary. NaN if a row has no distribution or g or c is not finite in float32. The gradient may overwrite the
 * logits: a row is read before it is written. Returns the number of values beyond the range of their type. `onRow` is called for
 * each row that is read.
 */
function fillGradient(
  plan: LogitsLayout,
  gradLogits: Float32Array | Float64Array | Uint16Array,
  byLogProb: ByLogProb,
  byEntropy: ArrayLike<number>,
  onRow: (row: RowStatistics) => void = () => {},
): number {
  const { vocab, rowStride, temperature, tokens, lossScale, mask } = plan;
  let overflows = 0;
  const z = new Float64Array(vocab);
  for (let row = 0; row < tokens.length; row++) {
    const start = row * rowStride;
    const g = byLogProb.gradient[row];
    const c = byEntropy[row];
    if ((mask !== null && mask[row] === 0) || (g === 0 && c === 0)) {
      gradLogits.fill(0, start, start + rowStride);
      continue;
    }
    readRow(plan, row, z);
    const statistics = rowStatistics(z);
    onRow(statistics);
    const { logSumExp, entropy } = statistics;
    const isNumber = byLogProb.finite[row] && isFiniteFloat32(c) && !Number.isNaN(logSumExp);
    for (let j = 0; j < vocab; j++) {
      const logP = z[j] - logSumExp;
      const p = Math.exp(logP);
      const byLogit = g * ((j === tokens[row] ? 1 : 0) - p) - (p === 0 ? 0 : c * p * (logP + entropy));
      const written = write[plan.dtype](isNumber ? (byLogit / temperature) * lossScale : NaN);
      gradLogits[start + j] = written;
      if (isNumber && !isFiniteFloat32(read[plan.dtype](written))) overflows += 1;
    }
    gradLogits.fill(0, start + vocab, start + rowStride);
  }
  return overflows;
}

/** The backward half of `logitsLoss`, from a given gradient with respect to log-probs and entropies. */
export function logitsBackward(plan: LogitsBackwardPlan): { metrics: Metrics } {
  const { gradLogProbs, gradEntropies, gradLogits, mask } = plan;
  const gradient = Float64Array.from(gradLogProbs);
  const byEntropy = gradEntropies ?? new Float64Array(gradient.length);
  const finite = Array.from(gradient, isFiniteFloat32);
  let inputs = 0;
  gradient.forEach((g, row) => {
    if (mask !== null && mask[row] === 0) return;
    if (!isFiniteFloat32(g)) inputs += 1;
    if (!isFiniteFloat32(byEntropy[row])) inputs += 1;
  });
  const overflows = fillGradient(plan, gradLogits, { gradient, finite }, byEntropy, ({ nonFinite }) => {
    inputs += nonFinite;
  });
  return { metrics: { nonFinite: inputs + overflows } };
}
