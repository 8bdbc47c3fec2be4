// The loss of a batch under a policy: from its logits, or from its final states if the logits would take too much memory.

import * as tf from '@tensorflow/tfjs-core';
import type { DeviceChoice } from '../devices/devices.js';
import { maxLogitBytes } from '../devices/linear.js';
import { logitsLoss } from '../loss/losses.js';
import type { LossConfig } from '../loss/option-types.js';
import { presets } from '../loss/presets.js';
import { hiddenInPlaceOfLogits, type LinearBatch, linearLoss, linearReport } from '../model/linear-loss.js';
import type { HiddenStates, Policy } from '../model/policy.js';
import { type GrpoReport, grpoLoss } from '../tfjs/index.js';
import { type CompletionBatch, logitsOf } from './completions.js';

/** The input of a batch's loss. The unembedding of `hidden` is the policy's. */
export type LossSource = { logits: tf.Tensor2D } | { hidden: HiddenStates };

export function lossSource(policy: Policy, batch: CompletionBatch, most = maxLogitBytes): LossSource {
  const { input, from, shape } = batch;
  const hidden = hiddenInPlaceOfLogits(policy, input, shape.sequences * shape.length, from, most);
  return hidden ? { hidden } : { logits: logitsOf(policy, batch) };
}

export interface BatchLossOptions {
  device: DeviceChoice;
  onResult?: (report: GrpoReport) => void;
}

/** A scalar that tfjs differentiates with respect to the policy's variables. */
export function batchLoss(
  source: LossSource,
  policy: Policy,
  { kept }: CompletionBatch,
  input: LinearBatch,
  config: LossConfig,
  options: BatchLossOptions,
): tf.Scalar {
  if ('logits' in source) return grpoLoss(source.logits, input, config, { ...options, inPlace: policy.inPlace });
  return linearLoss(source.hidden, input, config, { ...options, ...(kept && { kept }) });
}

/** Log-probs and entropies of a batch's tokens under the current policy, computed by the code of the loss. */
export function batchValues(
  policy: Policy,
  batch: CompletionBatch,
  { temperature, device }: { temperature: number; device: DeviceChoice },
  most = maxLogitBytes,
): GrpoReport {
  const { shape, targets: tokens, mask, kept } = batch;
  const input = { shape, tokens, mask, temperature, advantages: new Float32Array(shape.sequences) };
  const compute = (): GrpoReport => {
    const source = lossSource(policy, batch, most);
    if ('hidden' in source) {
      return linearReport(source.hidden, input, presets.reinforce, { device, ...(kept && { kept }) });
    }
    const logits = source.logits.dataSync<'float32'>();
    const whole = { ...input, shape: { ...shape, vocab: policy.logitsSize }, logits };
    return logitsLoss(whole, presets.reinforce, { gradient: false, device });
  };
  let report: GrpoReport | undefined;
  tf.tidy(() => {
    report = compute();
  });
  return report!;
}
