// The loss from hidden states h and an unembedding u: logits x_v = h · u_v of each row, softCap tanh(x_v / softCap) with a soft
// cap, and from their gradient that of h and u.

import { type LinearProducts, linearLoss as linearLossBy, withGradients } from '../linear.js';
import type { LinearPlan, LossScalars } from '../plan.js';
import { logitsBackward, logitsLoss } from './logits.js';
import { policyLoss } from './policy.js';

export function linearLoss(plan: LinearPlan): LossScalars & { accuracy?: number } {
  const { gradHidden, gradUnembedding } = plan;
  const device = { policyLoss, logitsLoss, logitsBackward };
  const result = linearLossBy(plan, device, productsOf(plan), gradHidden !== null || gradUnembedding !== null);
  return withGradients(plan, result);
}

function productsOf(plan: LinearPlan): LinearProducts {
  const { hiddenSize, vocab, hidden, unembedding, softCap, gradHidden } = plan;
  const product = (row: number, v: number) => {
    let sum = 0;
    for (let d = 0; d < hiddenSize; d++) sum += hidden[row * hiddenSize + d] * unembedding[v * hiddenSize + d];
    return sum;
  };
  const cap = (x: number) => (softCap === Infinity ? x : softCap * Math.tanh(x / softCap));
  const capSlope = (x: number) => (softCap === Infinity ? 1 : 1 - Math.tanh(x / softCap) ** 2);
  // In float64, whatever the output's type: otherwise the sum would be rounded once per chunk.
  const unembeddingSum = plan.gradUnembedding && new Float64Array(vocab * hiddenSize);

  return {
    floats: Float64Array,
    logits(rows) {
      const logits = new Float64Array(rows.length * vocab);
      rows.forEach((row, i) => {
        for (let v = 0; v < vocab; v++) logits[i * vocab + v] = cap(product(row, v));
      });
      return logits as unknown as Float32Array;
    },
    backward(rows, gradLogits) {
      rows.forEach((row, i) => {
        const sum = new Float64Array(hiddenSize);
        for (let v = 0; v < vocab; v++) {
          const g = gradLogits[i * vocab + v] * capSlope(product(row, v));
          for (let d = 0; d < hiddenSize; d++) {
            sum[d] += g * unembedding[v * hiddenSize + d];
            if (unembeddingSum) unembeddingSum[v * hiddenSize + d] += g * hidden[row * hiddenSize + d];
          }
        }
        gradHidden?.set(sum, row * hiddenSize);
      });
      if (unembeddingSum) plan.gradUnembedding?.set(unembeddingSum);
    },
  };
}
