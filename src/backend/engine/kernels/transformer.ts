// The primitives of a transformer and the optimiser's update: kernels that tfjs does not define, which the model and the trainer
// call (`fusedKernel` in src/model/part.ts; inputs and outputs are documented at the call sites).

import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { EngineBackend } from '../backend.js';
import type { Arguments, Kernels } from './kernel.js';

/** A new tensor and its values, to be written. */
function output(backend: EngineBackend, shape: readonly number[]) {
  const values = backend.allocate(
    'float32',
    shape.reduce((a, b) => a * b, 1),
  );
  return { values, wrap: () => backend.wrap(shape, 'float32', values) };
}

function rmsNorm({ inputs: { x, weight }, backend, attrs: { epsilon, offset } }: Arguments): TensorInfo[] {
  const [rows, n] = x.shape;
  const [y, scale] = [output(backend, x.shape), output(backend, [rows, 1])];
  const numbers = backend.numbers.of(rows, n, Number(epsilon), Number(offset));
  backend.engine.rmsNorm(numbers, backend.floats(x), backend.floats(weight), y.values, scale.values);
  return [y.wrap(), scale.wrap()];
}

function rmsNormBackward({ inputs, backend, attrs: { offset, wantsWeight } }: Arguments): TensorInfo[] {
  const [dy, x, weight, scale] = [inputs.dy, inputs.x, inputs.weight, inputs.scale].map((t) => backend.floats(t));
  const [rows, n] = inputs.x.shape;
  const dx = output(backend, inputs.x.shape);
  const dWeight = wantsWeight ? output(backend, inputs.weight.shape) : undefined;
  const numbers = backend.numbers.of(rows, n, Number(offset));
  backend.engine.rmsNormBackward(numbers, dy, x, weight, scale, dx.values, dWeight?.values ?? null);
  return [dx.wrap(), ...(dWeight ? [dWeight.wrap()] : [])];
}

function rotary({ inputs: { x, cos, sin }, backend, attrs: { width, inverse } }: Arguments): TensorInfo[] {
  const [rows, columns] = x.shape;
  const [positions, size] = cos.shape;
  const y = output(backend, x.shape);
  const numbers = backend.numbers.of(rows, columns / size, size, positions, Number(width), Number(inverse));
  backend.engine.rotary(numbers, backend.floats(x), backend.floats(cos), backend.floats(sin), y.values);
  return [y.wrap()];
}

function gatedUnit({ inputs: { gate, up }, backend, attrs: { gelu } }: Arguments): TensorInfo[] {
  const y = output(backend, gate.shape);
  const numbers = backend.numbers.of(Number(gelu), y.values.length);
  backend.engine.gatedUnit(numbers, backend.floats(gate), backend.floats(up), y.values);
  return [y.wrap()];
}

function gatedUnitBackward({ inputs: { dy, gate, up }, backend, attrs: { gelu } }: Arguments): TensorInfo[] {
  const [dGate, dUp] = [output(backend, gate.shape), output(backend, gate.shape)];
  const given = [dy, gate, up].map((tensor) => backend.floats(tensor)) as [Float32Array, Float32Array, Float32Array];
  const numbers = backend.numbers.of(Number(gelu), dUp.values.length);
  backend.engine.gatedUnitBackward(numbers, ...given, dGate.values, dUp.values);
  return [dGate.wrap(), dUp.wrap()];
}

function attentionShape({ inputs: { query }, attrs }: Arguments): number[] {
  const heads = Number(attrs.heads);
  const scores = [Number(attrs.scale), Number(attrs.softCap), Number(attrs.window)];
  return [heads, Number(attrs.keyValueHeads), query.shape[1] / heads, ...scores];
}

function attentionNumbers(args: Arguments): Float64Array {
  const sequences = Number(args.attrs.sequences);
  return args.backend.numbers.of(...attentionShape(args), sequences, args.inputs.query.shape[0] / sequences);
}

function attention(args: Arguments): TensorInfo[] {
  const { inputs, backend, attrs } = args;
  const [query, key, value] = [inputs.query, inputs.key, inputs.value].map((tensor) => backend.floats(tensor));
  const starts = backend.values(inputs.starts, 'int32');
  const y = output(backend, inputs.query.shape);
  const logSumExp = output(backend, [inputs.query.shape[0], Number(attrs.heads)]);
  backend.engine.attention(attentionNumbers(args), query, key, value, starts, y.values, logSumExp.values);
  return [y.wrap(), logSumExp.wrap()];
}

function attentionBackward(args: Arguments): TensorInfo[] {
  const { inputs, backend } = args;
  const names = ['dy', 'query', 'key', 'value', 'mixed', 'logSumExp'] as const;
  const given = names.map((name) => backend.floats(inputs[name])) as Tuple<Float32Array, 6>;
  const starts = backend.values(inputs.starts, 'int32');
  const gradients = [inputs.query, inputs.key, inputs.value].map(({ shape }) => output(backend, shape));
  const written = gradients.map(({ values }) => values) as Tuple<Float32Array, 3>;
  backend.engine.attentionBackward(attentionNumbers(args), ...given, starts, ...written);
  return gradients.map(({ wrap }) => wrap());
}

function decodeAttention(args: Arguments): TensorInfo[] {
  const { inputs, backend } = args;
  const { query, key, value, lengths } = inputs;
  const [rows] = query.shape;
  const blocks: Float32Array[] = [];
  for (let i = 0; `keys${i}` in inputs; i++) {
    blocks.push(backend.floats(inputs[`keys${i}`]), backend.floats(inputs[`values${i}`]));
  }
  const columns = inputs.keys0.shape[1];
  const y = output(backend, query.shape);
  backend.engine.decodeAttention(
    backend.numbers.of(...attentionShape(args), rows, columns),
    backend.floats(query),
    backend.floats(key),
    backend.floats(value),
    backend.values(lengths, 'int32'),
    y.values,
    ...blocks,
  );
  return [y.wrap()];
}

type Tuple<T, N extends number, R extends T[] = []> = R['length'] extends N ? R : Tuple<T, N, [...R, T]>;

function embeddingBackward({ inputs: { dy, tokens }, backend, attrs }: Arguments): TensorInfo[] {
  const [rows, width] = dy.shape;
  const vocabulary = Number(attrs.vocabulary);
  const y = output(backend, [vocabulary, width]);
  const ids = backend.values(tokens, 'int32');
  backend.engine.scatterAdd(backend.numbers.of(rows, vocabulary, width), backend.floats(dy), ids, y.values);
  return [y.wrap()];
}

function adamW({ inputs, backend, attrs }: Arguments): TensorInfo[] {
  const names = ['variable', 'mean', 'square', 'gradient'] as const;
  const given = names.map((name) => backend.floats(inputs[name])) as Tuple<Float32Array, 4>;
  const outputs = names.slice(0, 3).map((name) => output(backend, inputs[name].shape));
  const settings = ['scale', 'beta1', 'beta2', 'epsilon', 'rate', 'decay', 'correction'];
  const numbers = backend.numbers.of(given[0].length, ...settings.map((name) => Number(attrs[name])));
  backend.engine.adamW(numbers, ...given, ...(outputs.map(({ values }) => values) as Tuple<Float32Array, 3>));
  return outputs.map(({ wrap }) => wrap());
}

function globalNorm({ inputs, backend }: Arguments): TensorInfo[] {
  const tensors = Object.values(inputs).map((tensor) => backend.floats(tensor));
  const sum = new Float64Array(1);
  backend.engine.sumOfSquares(backend.numbers.of(...tensors.map(({ length }) => length)), sum, ...tensors);
  const y = output(backend, []);
  y.values[0] = Math.sqrt(sum[0]);
  return [y.wrap()];
}

export const transformerKernels: Kernels = {
  'groupgrad.rmsNorm': rmsNorm,
  'groupgrad.rmsNormBackward': rmsNormBackward,
  'groupgrad.rotary': rotary,
  'groupgrad.gatedUnit': gatedUnit,
  'groupgrad.gatedUnitBackward': gatedUnitBackward,
  'groupgrad.attention': attention,
  'groupgrad.attentionBackward': attentionBackward,
  'groupgrad.decodeAttention': decodeAttention,
  'groupgrad.embeddingBackward': embeddingBackward,
  'groupgrad.adamW': adamW,
  'groupgrad.globalNorm': globalNorm,
};
