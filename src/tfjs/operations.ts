// The losses as operations inside TensorFlow, on its own tensors, for tfjs-node and tfjs-node-gpu. Inputs and outputs are not
// copied; settings and reports are passed as small int32 tensors in host memory.

import * as tf from '@tensorflow/tfjs-core';
import { checkArray, checkLength } from '../base/check.js';
import { loadAddon, type TensorflowAddon, type TensorflowRegistration } from '../devices/load.js';
import type { LossScalars, TokenFields, TokenSettings } from '../devices/plan.js';
import { advantageResult } from '../loss/losses.js';
import { checkTokens, type FieldKind, planAdvantages, planLogitsTokens, planPolicyTokens } from '../loss/request.js';
import {
  type AdvantageCompute,
  type AdvantageTensors,
  type LogitsCompute,
  type PolicyCompute,
  type PolicyReport,
  readInts,
  readMask,
  requireFloat,
} from './batch.js';

/** The part of tfjs-node's backend that is used here. */
interface NodeBackend extends tf.KernelBackend {
  executeMultipleOutputs(name: string, attributes: [], inputs: readonly tf.Tensor[], outputs: number): tf.Tensor[];
  /** Whether it computes on the GPU by default. */
  isUsingGpuDevice?: boolean;
}

export interface TfjsBridge {
  /** `operations`: inside TensorFlow, without a copy. `arrays`: through typed arrays. */
  path: 'operations' | 'arrays';
  /** Which operations, or why there are none and how to fix it. */
  detail: string;
}

/** What runs operations on the current backend. */
export interface Operations {
  addon: TensorflowAddon;
  backend: NodeBackend;
  names: TensorflowRegistration['operations'];
  /** The groupgrad device behind them. */
  device: 'cpu' | 'cuda';
}

type Connection = { operations: Operations; detail: string } | { operations: null; detail: string };

/** The connection of the most recent backend; it is valid for that backend's lifetime. */
let cached: { backend: tf.KernelBackend; connection: Connection } | undefined;

/** Registers the operations if that is possible and has not been done. */
export function connect(): Connection {
  const name = tf.getBackend();
  if (name !== 'tensorflow') {
    const current = name ? `tfjs backend '${name}' has none` : 'no tfjs backend is set';
    return { operations: null, detail: `${current}: operations need 'tensorflow' (tfjs-node or tfjs-node-gpu)` };
  }
  const backend = tf.backend();
  if (cached?.backend !== backend) cached = { backend, connection: register(backend as NodeBackend) };
  return cached.connection;
}

function register(backend: NodeBackend): Connection {
  const none = (detail: string): Connection => ({ operations: null, detail });
  if (typeof backend.executeMultipleOutputs !== 'function') {
    return none("the backend 'tensorflow' is not tfjs-node's: it cannot run an operation by name");
  }
  const { addon, ...rest } = loadAddon();
  if (!addon) return none((rest as { reason: string }).reason);
  const registration = addon.tensorflow.register();
  if ('error' in registration) return none(registration.error);
  const { operations: names, tensorflow, devices } = registration;
  const onGpu = backend.isUsingGpuDevice === true;
  const device = onGpu && devices.includes('GPU') ? 'cuda' : 'cpu';
  const copied =
    onGpu && device === 'cpu' ? '; TensorFlow copies logits from the GPU, for which this addon is not built' : '';
  const detail = `${names.logitsLoss} and relatives in TensorFlow ${tensorflow}, for ${devices}${copied}`;
  return { operations: { addon: addon.tensorflow, backend, names, device }, detail };
}

/** Where and how `groupgrad/tfjs` computes on tfjs's current backend. Registers the operations if it can. */
export function tfjsBridge(): TfjsBridge {
  const { operations, detail } = connect();
  return { path: operations ? 'operations' : 'arrays', detail };
}

/** Called within a tfjs scope, which frees intermediate tensors. */
export const logitsLoss =
  (operations: Operations): LogitsCompute =>
  (x, batch, config, { inPlace = false, ...options }, onResult) => {
    const { addon, names } = operations;
    const settings = planLogitsTokens({ ...batch }, config, options, tensors);
    const { sequences, length, vocab } = settings;
    checkLength('logits', x.size, sequences * length * vocab, `${sequences} sequences x ${length} x ${vocab}`);
    const tokens = checkTokens(readInts('tokens', batch.tokens), readMask(batch.mask) ?? null, settings);
    const ids = batch.tokens instanceof tf.Tensor ? batch.tokens : tf.tensor(tokens, [tokens.length], 'int32');
    const plan = { ...settings, inPlace, rows: onResult !== undefined };
    const inputs = [x, ...fieldTensors(settings), requestTensor(addon.packLogits(plan)), ids];
    const [loss, gradient, report] = run(operations, names.logitsLoss, inputs, 3);
    if (onResult) {
      const [logProbs, entropies] = [new Float32Array(tokens.length), new Float32Array(tokens.length)];
      const scalars = addon.logitsReport({ ...plan, logProbs, entropies }, report.dataSync() as Int32Array);
      onResult({ ...lossReport(settings, scalars), logProbs, entropies });
    }
    return { loss: loss as tf.Scalar, gradient };
  };

/** Likewise. */
export const policyLoss =
  (operations: Operations): PolicyCompute =>
  (x, batch, config, options, onResult) => {
    const { addon, names } = operations;
    const settings = planPolicyTokens({ ...batch }, config, { ...options }, tensors);
    const { sequences, length } = settings;
    checkLength('logProbs', x.size, sequences * length, `${sequences} sequences x ${length}`);
    const inputs = [x, ...fieldTensors(settings), requestTensor(addon.packPolicy(settings))];
    const [loss, gradient, report] = run(operations, names.policyLoss, inputs, 3);
    onResult?.(lossReport(settings, addon.policyReport(settings, report.dataSync() as Int32Array)));
    return { loss: loss as tf.Scalar, gradient };
  };

/** Likewise. */
export const computeAdvantages =
  (operations: Operations): AdvantageCompute =>
  (rewards, config) => {
    const { addon, names } = operations;
    const { plan } = planAdvantages(rewards, config);
    const outputs = run(operations, names.computeAdvantages, [requestTensor(addon.packAdvantages(plan))], 6);
    const [advantages, weights, groupMean, groupStd, active, report] = outputs;
    const scalars = addon.advantageReport(plan, report.dataSync() as Int32Array);
    report.dispose();
    return { tensors: { advantages, weights, groupMean, groupStd, active } as AdvantageTensors, ...scalars };
  };

/** Per-token fields as tensors: the caller's own, or created over the memory of the caller's array. */
const tensors: FieldKind<tf.Tensor, tf.Tensor> = {
  floats(field, value, length, shape) {
    if (!(value instanceof tf.Tensor)) {
      const array = checkArray(field, value, 'Float32Array', length, shape);
      return tf.tensor(array, [array.length], 'float32');
    }
    requireFloat(field, value);
    if (length !== undefined) checkLength(field, value.size, length, shape);
    return value;
  },
  bytes(field, value, length, shape) {
    if (!(value instanceof tf.Tensor)) {
      return tf.tensor(checkArray(field, value, 'Uint8Array', length, shape), [length], 'bool');
    }
    checkLength(field, value.size, length, shape);
    return value.dtype === 'bool' ? value : tf.notEqual(value, tf.scalar(0, value.dtype as 'float32' | 'int32'));
  },
  lengthOf: ({ size }) => size,
  onCuda: false,
};

/** In the order of native/tensorflow/kernels.cpp; an omitted field is an empty tensor. */
function fieldTensors(fields: TokenFields<tf.Tensor, tf.Tensor>): tf.Tensor[] {
  const { oldLogProbs, refLogProbs, mask, tokenWeights, advantages } = fields;
  const none = tf.tensor(new Float32Array(0), [0], 'float32');
  return [
    oldLogProbs ?? none,
    refLogProbs ?? none,
    mask ?? tf.tensor(new Uint8Array(0), [0], 'bool'),
    tokenWeights ?? none,
    advantages ?? none,
  ];
}

function requestTensor(request: Int32Array): tf.Tensor {
  return tf.tensor(request, [request.length], 'int32');
}

/** Runs an operation. Input that the kernel rejects becomes a RangeError with the kernel's message. */
function run({ backend }: Operations, name: string, inputs: tf.Tensor[], outputs: number): tf.Tensor[] {
  try {
    return backend.executeMultipleOutputs(name, [], inputs, outputs);
  } catch (error) {
    const refusal = /^Invalid TF_Status: (\d+)\nMessage: (.*)/s.exec((error as Error).message);
    // TensorFlow's INVALID_ARGUMENT and RESOURCE_EXHAUSTED.
    if (refusal && ['3', '8'].includes(refusal[1])) throw new RangeError(refusal[2], { cause: error });
    throw error;
  }
}

function lossReport(
  { advantage }: TokenSettings,
  { loss, metrics, accuracy }: LossScalars & { accuracy?: number },
): PolicyReport {
  return {
    loss,
    metrics,
    ...(advantage && { advantage: advantageResult(advantage.output, { accuracy: accuracy!, metrics }) }),
  };
}
