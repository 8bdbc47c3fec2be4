// Matrix products, with a bias and an activation.

import { broadcast_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { EngineAddon, PackedMatrix } from '../../../devices/load.js';
import type { EngineBackend } from '../backend.js';
import { binary } from './elementwise.js';
import { type Arguments, isFloat, type Kernel, type Kernels, sizeOf, stridesOf } from './kernel.js';

/** Products of more rows spend so little of their time on packing that saving memory matters more. */
const maxRowsForPacking = 256;

/** tfjs's activations by the name of their kernel. */
const activations: Readonly<Record<string, string>> = {
  elu: 'Elu',
  leakyrelu: 'LeakyRelu',
  relu: 'Relu',
  relu6: 'Relu6',
  sigmoid: 'Sigmoid',
};

interface Epilogue {
  bias: Float32Array | null;
  /** Index of a unary operation, or -1. */
  activation: number;
  alpha: number;
  /** Where the product is written, or added to what is there, instead of new memory. */
  into?: { values: Float32Array; adds: boolean };
}

/** Offset of the factor of each product of the batch, in elements. */
function batchOffsets(shape: readonly number[], batch: readonly number[], size: number): number[] {
  const own = stridesOf(shape);
  const missing = batch.length - shape.length;
  let offsets = [0];
  batch.forEach((count, axis) => {
    const stride = axis < missing || shape[axis - missing] === 1 ? 0 : own[axis - missing] * size;
    offsets = offsets.flatMap((offset) => Array.from({ length: count }, (_, i) => offset + i * stride));
  });
  return offsets;
}

/** The product in memory that nothing else references yet, or in that of the epilogue. */
export function multiply(
  backend: EngineBackend,
  a: TensorInfo,
  b: TensorInfo,
  { transposeA, transposeB }: { transposeA: boolean; transposeB: boolean },
  { bias, activation, alpha, into }: Epilogue,
): { shape: number[]; values: Float32Array } {
  const [rowsA, columnsA] = a.shape.slice(-2);
  const [rowsB, columnsB] = b.shape.slice(-2);
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  util.assert(
    k === inner,
    () =>
      `Error in matMul: inner shapes (${k}) and (${inner}) of Tensors with shapes ${a.shape} and ${b.shape} and ` +
      `transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = broadcast_util.assertAndGetBroadcastShape(batchA, batchB);
  let offsetsA = batchOffsets(batchA, batch, m * k);
  let offsetsB = batchOffsets(batchB, batch, k * n);
  let rows = m;
  const oneRight = sizeOf(batchB) === 1;
  if (oneRight && !transposeA && sizeOf(batchA) === sizeOf(batch)) {
    // All rows of the batch share the matrix: one product.
    rows = m * sizeOf(batch);
    offsetsA = offsetsB = [0];
  }
  const [strideM, strideK] = transposeA ? [1, m] : [k, 1];
  const [strideKB, strideN] = transposeB ? [1, k] : [n, 1];
  const { engine, precision, numbers } = backend;
  const code = precision === 'bfloat16' ? 1 : 0;

  const stored = backend.stored(b.dataId);
  const factor = stored.compressed ?? backend.floats(b);
  let right: Float32Array | Uint16Array | PackedMatrix = factor;
  if (oneRight && k > 0 && n > 0) {
    const key = `${code} ${k} ${n} ${strideKB} ${strideN}`;
    const packed = backend.packed.find(stored, key, rows <= maxRowsForPacking, () =>
      engine.pack(numbers.of(code, k, n, strideKB, strideN), factor),
    );
    right = packed ?? factor;
  }

  const shape = [...batch, m, n];
  const left = backend.floats(a);
  const y = into?.values ?? backend.allocate('float32', sizeOf(shape));
  const sizes = [code, offsetsA.length, rows, k, n, strideM, strideK, strideKB, strideN];
  const epilogue = [activation, alpha, Number(into?.adds ?? false)];
  engine.matMul(numbers.of(...sizes, ...epilogue, ...offsetsA, ...offsetsB), left, right, bias, y);
  return { shape, values: y };
}

/** Nothing but the product. */
export const plain: Epilogue = { bias: null, activation: -1, alpha: 0 };

function matMul(...args: Parameters<typeof multiply>): TensorInfo {
  const { shape, values } = multiply(...args);
  return args[0].wrap(shape, 'float32', values);
}

function batchMatMul({ inputs: { a, b }, backend, attrs }: Arguments): TensorInfo | undefined {
  if (!isFloat(a, b)) return undefined;
  const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
  return matMul(backend, a, b, { transposeA, transposeB }, plain);
}

function fusedMatMul({ unaryOperations, binaryOperations }: EngineAddon): Kernel {
  const prelu = binaryOperations.indexOf('Prelu');
  return ({ inputs, backend, attrs }) => {
    const { a, b, bias, preluActivationWeights } = inputs;
    if (!isFloat(a, b)) return undefined;
    const activation = (attrs.activation as string | undefined) ?? 'linear';
    const native =
      activation === 'linear' || activation === 'prelu' ? -1 : unaryOperations.indexOf(activations[activation]);
    if (native < 0 && activation !== 'linear' && activation !== 'prelu') return undefined;
    const n = attrs.transposeB ? b.shape[b.shape.length - 2] : b.shape[b.shape.length - 1];
    const perColumn = bias && bias.shape[bias.shape.length - 1] === n && sizeOf(bias.shape) === n;
    if (bias && !(perColumn && isFloat(bias))) return undefined;
    if (activation === 'prelu' && !isFloat(preluActivationWeights)) return undefined;
    const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
    const product = matMul(
      backend,
      a,
      b,
      { transposeA, transposeB },
      {
        bias: bias ? backend.floats(bias) : null,
        activation: native,
        alpha: (attrs.leakyreluAlpha as number | undefined) ?? 0,
      },
    );
    if (activation !== 'prelu') return product;
    const result = binary(backend, prelu, false, product, preluActivationWeights);
    backend.disposeIntermediateTensorInfo(product);
    return result;
  };
}

export function matMulKernels(engine: EngineAddon): Kernels {
  return { BatchMatMul: batchMatMul, _FusedMatMul: fusedMatMul(engine) };
}
