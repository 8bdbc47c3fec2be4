// Plans whose arrays are float64, so that the reference device can be compared and differentiated in full precision.
// Only the reference device accepts them: the types of a plan's inputs are those that every device accepts.

import type { AdvantageOutput, LogitsPlan, PolicyPlan, TokenPlan } from '../../src/devices/plan.js';

/** float64 values where a plan's type says Float32Array. */
export function asInput(values: ArrayLike<number>): Float32Array {
  return Float64Array.from(values) as unknown as Float32Array;
}

export function float64Advantages(output: AdvantageOutput): AdvantageOutput {
  return {
    advantages: new Float64Array(output.advantages.length),
    weights: new Float64Array(output.weights.length),
    groupMean: new Float64Array(output.groupMean.length),
    groupStd: new Float64Array(output.groupStd.length),
    active: output.active,
  };
}

function float64Tokens(plan: TokenPlan): Pick<TokenPlan, 'advantage'> {
  const { advantage } = plan;
  return { advantage: advantage && { plan: advantage.plan, output: float64Advantages(advantage.output) } };
}

export function float64Policy(plan: PolicyPlan): PolicyPlan & { gradLogProbs: Float64Array } {
  const { logProbs, gradEntropies } = plan;
  return {
    ...plan,
    ...float64Tokens(plan),
    gradLogProbs: new Float64Array(logProbs.length),
    gradEntropies: gradEntropies && new Float64Array(gradEntropies.length),
  };
}

export function float64Logits(plan: LogitsPlan): LogitsPlan & {
  gradLogits: Float64Array;
  logProbs: Float64Array;
  entropies: Float64Array;
} {
  return {
    ...plan,
    ...float64Tokens(plan),
    gradLogits: new Float64Array(plan.logits.length),
    logProbs: new Float64Array(plan.tokens.length),
    entropies: new Float64Array(plan.tokens.length),
  };
}
