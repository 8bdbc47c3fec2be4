// A linear layer with its bias and adapter: products that are added up in the memory of the first. Inputs and outputs are documented
// at the call site (src/model/linear.ts).

import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { EngineBackend } from '../backend.js';
import type { Arguments, Kernels } from './kernel.js';
import { multiply, plain } from './matmul.js';

const asTheyAre = { transposeA: false, transposeB: false };
const secondTransposed = { transposeA: false, transposeB: true };
const firstTransposed = { transposeA: true, transposeB: false };

/** A product times a number. */
function scaled(
  backend: EngineBackend,
  [a, b]: readonly [TensorInfo, TensorInfo],
  transposes: typeof asTheyAre,
  scale: number,
): TensorInfo {
  const { shape, values } = multiply(backend, a, b, transposes, plain);
  const { engine, numbers } = backend;
  const times = engine.binaryOperations.indexOf('Multiply');
  engine.binary(numbers.of(times, 1, values.length, 1, 0), values, Float32Array.of(scale), values);
  return backend.wrap(shape, 'float32', values);
}

function adapterStates({ inputs: { x, a }, backend, attrs: { scale } }: Arguments): TensorInfo[] {
  return [scaled(backend, [x, a], secondTransposed, Number(scale))];
}

function linear({ inputs, backend, attrs: { inputsFirst } }: Arguments): TensorInfo[] {
  const { x, weight, bias, low, b } = inputs;
  const perColumn = bias ? backend.floats(bias) : null;
  const { shape, values } = multiply(backend, x, weight, inputsFirst ? asTheyAre : secondTransposed, {
    ...plain,
    bias: perColumn,
  });
  if (low) multiply(backend, low, b, secondTransposed, { ...plain, into: { values, adds: true } });
  return [backend.wrap(shape, 'float32', values)];
}

function linearBackward({ inputs, backend, attrs }: Arguments): TensorInfo[] {
  const { dy, x, weight, a, b, low } = inputs;
  const gradients: TensorInfo[] = [];
  const add = ({ shape, values }: ReturnType<typeof multiply>) => {
    gradients.push(backend.wrap(shape, 'float32', values));
    return values;
  };
  const { inputsFirst, scale, wantsX, wantsA, wantsB } = attrs;
  const dLow = wantsX || wantsA ? scaled(backend, [dy, b], asTheyAre, Number(scale)) : undefined;
  if (wantsX) {
    const values = add(multiply(backend, dy, weight, inputsFirst ? secondTransposed : asTheyAre, plain));
    multiply(backend, dLow!, a, asTheyAre, { ...plain, into: { values, adds: true } });
  }
  if (wantsA) add(multiply(backend, dLow!, x, firstTransposed, plain));
  if (wantsB) add(multiply(backend, dy, low, firstTransposed, plain));
  if (dLow) backend.disposeIntermediateTensorInfo(dLow);
  return gradients;
}

function multiplyInto({ inputs: { y, a, b }, backend, attrs }: Arguments): TensorInfo[] {
  const { transposeA, transposeB, adds } = attrs as Record<'transposeA' | 'transposeB' | 'adds', boolean>;
  multiply(backend, a, b, { transposeA, transposeB }, { ...plain, into: { values: backend.floats(y), adds } });
  return [];
}

export const linearKernels: Kernels = {
  'groupgrad.adapterStates': adapterStates,
  'groupgrad.linear': linear,
  'groupgrad.linearBackward': linearBackward,
  'groupgrad.multiplyInto': multiplyInto,
};
