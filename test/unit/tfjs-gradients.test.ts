// The gradients and methods that groupgrad/tfjs adds to tfjs-core on Node: compared with tfjs's own, or with finite differences
// where those are wrong or absent, also on the WebAssembly backend; and none is missing.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tsx from 'tsx/cjs/api';
import { addChainedOperations } from '../../src/tfjs/chained.js';
import { gradients } from '../../src/tfjs/gradients.js';
import { assertArray } from '../support/compare.js';
import { seeded } from '../support/random.js';

const tfjs = join(dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-core')));

// tfjs's own, which only tsx can load: they are ES modules without the file extensions that Node asks for.
for (const module of ['register_all_gradients', 'public/chained_ops/register_all_chained_ops'])
  tsx.require(`@tensorflow/tfjs-core/dist/${module}`, import.meta.url);
const theirs = new Map(gradients.map(({ kernelName }) => [kernelName, tf.getGradient(kernelName)]));

type Shape = number[];
interface Case {
  /** Kernels whose gradients are tested. */
  kernels: string;
  shapes: Shape[];
  f(...x: tf.Tensor[]): tf.Tensor;
  /** The interval that inputs are drawn from. Default: -2 to 2. */
  range?: [number, number];
  /** tfjs's own gradient is wrong, fails, or is absent: compared only with finite differences. */
  ownFails?: true;
}

const unary = (kernels: string, f: (x: tf.Tensor) => tf.Tensor, range?: [number, number]): Case => ({
  kernels,
  shapes: [[2, 3]],
  f,
  range,
});
const binary = (kernels: string, f: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor, more: Partial<Case> = {}): Case[] =>
  [
    [
      [2, 3],
      [2, 3],
    ],
    [
      [2, 3],
      [1, 3],
    ],
    [[3], [2, 3]],
    [[2, 3], []],
  ].map((shapes, i) => ({ kernels, shapes, f, ...more, ownFails: i === 0 ? undefined : more.ownFails }));
const ids = (values: number[], shape: Shape = [values.length]) => tf.tensor(values, shape, 'int32');

const cases: Case[] = [
  unary('Abs', tf.abs),
  unary('Acos', tf.acos, [-0.9, 0.9]),
  unary('Acosh', tf.acosh, [1.2, 3]),
  unary('Asin', tf.asin, [-0.9, 0.9]),
  unary('Asinh', tf.asinh),
  unary('Atan', tf.atan),
  unary('Atanh', tf.atanh, [-0.8, 0.8]),
  unary('ClipByValue', (x) => tf.clipByValue(x, -0.7, 0.8)),
  unary('Cos', tf.cos),
  unary('Cosh', tf.cosh),
  unary('Elu', tf.elu),
  unary('Erf', tf.erf),
  unary('Exp', tf.exp),
  unary('Expm1', tf.expm1),
  unary('LeakyRelu', (x) => tf.leakyRelu(x, 0.3)),
  unary('Log', tf.log, [0.3, 3]),
  unary('Log1p', tf.log1p, [-0.5, 3]),
  unary('Neg', tf.neg),
  unary('Reciprocal', tf.reciprocal, [0.5, 3]),
  unary('Relu', tf.relu),
  unary('Relu6', (x) => tf.relu6(tf.mul(x, 4))),
  unary('Rsqrt', tf.rsqrt, [0.5, 3]),
  unary('Selu', tf.selu),
  unary('Sigmoid', tf.sigmoid),
  unary('Sin', tf.sin),
  unary('Sinh', tf.sinh),
  unary('Softplus', tf.softplus),
  unary('Sqrt', tf.sqrt, [0.5, 3]),
  unary('Square', tf.square),
  unary('Tan', tf.tan, [-1, 1]),
  unary('Tanh', tf.tanh),
  unary('Cast', (x) => tf.cast(x, 'float32')),
  unary('Identity', tf.clone),
  ...(
    [
      ['Ceil', tf.ceil],
      ['Floor', tf.floor],
      ['Round', tf.round],
      ['Sign', tf.sign],
      ['Step', tf.step],
      ['IsNan', tf.isNaN],
      ['IsInf', tf.isInf],
      ['IsFinite', tf.isFinite],
      ['OnesLike', tf.onesLike],
      ['ZerosLike', tf.zerosLike],
    ] as [string, (x: tf.Tensor) => tf.Tensor][]
  ).map(([kernel, f]) => unary(kernel, (x) => tf.cast(f(x), 'float32'))),
  unary('ArgMax', (x) => tf.cast(tf.argMax(x, 1), 'float32')),
  unary('OneHot', (x) => tf.oneHot(tf.cast(x, 'int32') as tf.Tensor2D, 3)),
  unary('ArgMin', (x) => tf.cast(tf.argMin(x, 1), 'float32')),

  ...binary('Add', tf.add),
  ...binary('Sub', tf.sub),
  ...binary('Multiply', tf.mul),
  ...binary('RealDiv', tf.div, { range: [0.5, 2] }),
  ...binary('Atan2', tf.atan2, { range: [0.5, 2] }),
  ...binary('Mod', tf.mod, { range: [0.6, 3] }),
  ...binary('Pow', tf.pow, { range: [0.5, 2] }),
  ...binary('Maximum', tf.maximum, { ownFails: true }),
  ...binary('Minimum', tf.minimum, { ownFails: true }),
  ...binary('SquaredDifference', tf.squaredDifference, { ownFails: true }),
  // tfjs's own gradient is that of a division. The quotients are between 2.3 and 2.5, so that none jumps.
  ...binary('FloorDiv', (a, b) => tf.floorDiv(tf.add(tf.mul(a, 0.1), 5), tf.add(tf.mul(b, 0.1), 2)), {
    range: [1.1, 1.9],
    ownFails: true,
  }).map((c) => ({ ...c, ownFails: true as const })),
  ...binary('GreaterEqual', (a, b) => tf.cast(tf.greaterEqual(a, b), 'float32'), { ownFails: true }),
  { kernels: 'Prelu', shapes: [[2, 3], [3]], f: tf.prelu as Case['f'] },
  {
    kernels: 'AddN',
    shapes: [
      [2, 3],
      [2, 3],
      [2, 3],
    ],
    f: (...x) => tf.addN(x),
  },
  {
    kernels: 'Select',
    shapes: [
      [2, 3],
      [2, 3],
    ],
    f: (a, b) => tf.where(tf.tensor([1, 0, 1, 0, 0, 1], [2, 3], 'bool'), a, b),
  },

  ...[false, true].flatMap((transposeA) =>
    [false, true].map(
      (transposeB): Case => ({
        kernels: 'BatchMatMul',
        shapes: [transposeA ? [3, 2] : [2, 3], transposeB ? [4, 3] : [3, 4]],
        f: (a, b) => tf.matMul(a, b, transposeA, transposeB),
      }),
    ),
  ),
  {
    kernels: 'BatchMatMul',
    shapes: [
      [2, 2, 3],
      [2, 3, 4],
    ],
    f: (a, b) => tf.matMul(a, b),
  },
  {
    kernels: 'BatchMatMul',
    shapes: [
      [2, 2, 3],
      [1, 3, 4],
    ],
    f: (a, b) => tf.matMul(a, b),
    ownFails: true,
  },

  ...[undefined, 0, 1, [0, 2], -1].flatMap((axis) =>
    [false, true].flatMap((keep): Case[] => [
      { kernels: 'Sum', shapes: [[2, 3, 2]], f: (x) => tf.sum(x, axis, keep) },
      { kernels: 'Mean', shapes: [[2, 3, 2]], f: (x) => tf.mean(x, axis, keep) },
      { kernels: 'Max', shapes: [[2, 3, 2]], f: (x) => tf.max(x, axis, keep) },
      { kernels: 'Min', shapes: [[2, 3, 2]], f: (x) => tf.min(x, axis, keep) },
      { kernels: 'Prod', shapes: [[2, 3, 2]], f: (x) => tf.prod(x, axis, keep), ownFails: true },
    ]),
  ),
  { kernels: 'Cumsum', shapes: [[2, 3]], f: (x) => tf.cumsum(x, 1, true, false) },
  { kernels: 'Cumsum', shapes: [[2, 3]], f: (x) => tf.cumsum(x, 0, false, true), ownFails: true },
  ...[0, 1, -1].map(
    (axis): Case => ({ kernels: 'Softmax', shapes: [[3, 4]], f: (x) => tf.softmax(x, axis === 0 ? 1 : axis) }),
  ),
  { kernels: 'LogSoftmax', shapes: [[3, 4]], f: (x) => tf.logSoftmax(x) },

  { kernels: 'Reshape', shapes: [[2, 3]], f: (x) => tf.reshape(x, [3, 2]) },
  { kernels: 'ExpandDims', shapes: [[2, 3]], f: (x) => tf.expandDims(x, 1) },
  { kernels: 'Transpose', shapes: [[2, 3, 4]], f: (x) => tf.transpose(x, [1, 2, 0]) },
  { kernels: 'Reverse', shapes: [[2, 3]], f: (x) => tf.reverse(x, 1) },
  { kernels: 'BroadcastTo', shapes: [[2, 1]], f: (x) => tf.broadcastTo(x, [2, 3]) },
  {
    kernels: 'PadV2',
    shapes: [[2, 3]],
    f: (x) =>
      tf.pad(x, [
        [1, 0],
        [0, 2],
      ]),
  },
  { kernels: 'Slice', shapes: [[3, 4]], f: (x) => tf.slice(x, [1, 0], [2, -1]) },
  { kernels: 'Tile', shapes: [[2, 3]], f: (x) => tf.tile(x, [2, 3]) },
  {
    kernels: 'Concat',
    shapes: [
      [2, 3],
      [2, 1],
    ],
    f: (a, b) => tf.concat([a, b], 1),
  },
  {
    kernels: 'Concat',
    shapes: [
      [2, 3],
      [1, 3],
    ],
    f: (a, b) => tf.concat([a, b], 0),
  },
  {
    kernels: 'Pack',
    shapes: [
      [2, 3],
      [2, 3],
    ],
    f: (a, b) => tf.stack([a, b], 1),
  },
  { kernels: 'Unpack', shapes: [[3, 2]], f: (x) => tf.unstack(x, 1).reduce((a, b) => tf.sub(a, b)) },
  { kernels: 'SplitV', shapes: [[2, 4]], f: (x) => tf.split(x, 2, 1).reduce((a, b) => tf.mul(a, b)) },
  { kernels: 'GatherV2', shapes: [[4, 3]], f: (x) => tf.gather(x, ids([3, 0, 3, 1])) },
  { kernels: 'GatherV2', shapes: [[2, 4, 3]], f: (x) => tf.gather(x, ids([3, 0, 3, 1, 1, 2], [2, 3]), 1) },
  { kernels: 'GatherV2', shapes: [[2, 4, 3]], f: (x) => tf.gather(x, ids([3, 0, 3, 1], [2, 2]), 1, 1), ownFails: true },
  {
    kernels: 'UnsortedSegmentSum',
    shapes: [[4, 2]],
    f: (x) => tf.unsortedSegmentSum(x, ids([1, 0, -1, 1]) as tf.Tensor1D, 3),
  },
];

/** Kernels that the WebAssembly backend does not have. */
const notOnWasm = ['UnsortedSegmentSum'];

const used = new Set<string>();
function useOurs(): void {
  for (const gradient of gradients) {
    tf.registerGradient({
      ...gradient,
      gradFunc: (...args) => {
        used.add(gradient.kernelName);
        return gradient.gradFunc(...args);
      },
    });
  }
}
function useTheirs(): void {
  for (const gradient of theirs.values()) tf.registerGradient(gradient);
}

/** Weights that turn the output into a scalar, so that every entry counts differently. */
function scalarOf(y: tf.Tensor): tf.Scalar {
  const weights = Float32Array.from({ length: y.size }, (_, i) => 0.5 + Math.sin(1 + 2 * i));
  return tf.sum(tf.mul(y, tf.tensor(weights, y.shape)));
}

function drawn({ shapes, range: [low, high] = [-2, 2] }: Case, seed: number): number[][] {
  const random = seeded(seed);
  return shapes.map((shape) => Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.uniform(low, high)));
}

function gradientsOf({ shapes, f }: Case, values: number[][]): Float32Array[] {
  return tf.tidy(() => {
    const inputs = values.map((v, i) => tf.tensor(v, shapes[i], 'float32'));
    return tf
      .grads((...x: tf.Tensor[]) => scalarOf(f(...x)))(inputs)
      .map((g) => g.dataSync() as Float32Array);
  });
}

/** Central differences, with a step that is small compared with the inputs and large compared with the rounding of float32. */
function differences({ shapes, f }: Case, values: number[][]): number[][] {
  const step = 2 ** -8;
  const at = (i: number, j: number, shift: number) =>
    tf.tidy(() => {
      const inputs = values.map((v, k) =>
        tf.tensor(
          v.map((value, l) => (k === i && l === j ? value + shift : value)),
          shapes[k],
          'float32',
        ),
      );
      return scalarOf(f(...inputs)).dataSync()[0];
    });
  return values.map((v, i) => v.map((_, j) => (at(i, j, step) - at(i, j, -step)) / (2 * step)));
}

const names = (all: Case[]) =>
  all.map((c, i): [string, Case, number] => [`${c.kernels}, ${JSON.stringify(c.shapes)} (${i})`, c, i]);

describe('gradients of tfjs operations', () => {
  before(async () => {
    await tf.setBackend('cpu');
  });

  test("agree with tfjs's own, or with finite differences where those fail", () => {
    for (const [name, c, seed] of names(cases)) {
      const values = drawn(c, seed);
      useOurs();
      const ours = gradientsOf(c, values);
      if (c.ownFails) {
        differences(c, values).forEach((d, i) => {
          // Rounding of sums of at most 36 values of at most 16, divided by the step; curvature.
          d.forEach((expected, j) => {
            const off = Math.abs(ours[i][j] - expected);
            assert.ok(off < 0.02 * (1 + Math.abs(expected)), `${name}: ${ours[i][j]} for ${expected}`);
          });
        });
      } else {
        useTheirs();
        gradientsOf(c, values).forEach((expected, i) => {
          if (expected.every((e) => e === 0))
            assert.ok(
              ours[i].every((g) => g === 0),
              name,
            );
          else assertArray(ours[i], expected, 1e-5, name);
        });
      }
    }
    assert.deepEqual(
      [...theirs.keys()].filter((kernel) => !used.has(kernel)),
      [],
    );
  });

  test('are the same on the WebAssembly backend', async () => {
    useOurs();
    const expected = cases.map((c, seed) => gradientsOf(c, drawn(c, seed)));
    await tf.setBackend('wasm');
    try {
      for (const [name, c, seed] of names(cases)) {
        if (notOnWasm.includes(c.kernels)) continue;
        gradientsOf(c, drawn(c, seed)).forEach((g, i) => {
          if (expected[seed][i].every((e) => e === 0))
            assert.ok(
              g.every((v) => Math.abs(v) < 1e-6),
              name,
            );
          else assertArray(g, expected[seed][i], 1e-4, name);
        });
      }
    } finally {
      await tf.setBackend('cpu');
    }
  });

  test('free the tensors that they create', () => {
    useOurs();
    const values = cases.map(drawn);
    const before = tf.memory().numTensors;
    cases.forEach((c, i) => void gradientsOf(c, values[i]));
    assert.equal(tf.memory().numTensors, before);
  });

  test('exist for every operation of tfjs except convolutions, pooling, images and complex numbers', () => {
    const kernels = readdirSync(join(tfjs, 'gradients')).flatMap((file) => /^(.+)_grad\.js$/.exec(file)?.[1] ?? []);
    const ours = gradients.map(({ kernelName }) => kernelName);
    assert.equal(new Set(ours).size, ours.length);
    const left = kernels.filter((kernel) => !ours.includes(kernel));
    const elsewhere =
      /^(AvgPool|MaxPool)(3D)?$|Conv|Dilation2D|FusedBatchNorm|LRN|MirrorPad|ResizeBilinear|ResizeNearestNeighbor|SpaceToBatchND|BatchToSpaceND|ComplexAbs/;
    assert.deepEqual(
      left.filter((kernel) => !elsewhere.test(kernel)),
      ['BroadcastTo', 'LogSoftmax'], // not run by any operation: they are composed of others
    );
    assert.deepEqual(
      ours.filter((kernel) => !kernels.includes(kernel)),
      [],
    );
  });
});

describe('methods of tensors', () => {
  /** Every method that tfjs declares, by name. */
  const declared = readdirSync(join(tfjs, 'public', 'chained_ops'))
    .filter((file) => file.endsWith('.d.ts') && !file.startsWith('register_all'))
    .flatMap((file) => {
      const text = readFileSync(join(tfjs, 'public', 'chained_ops', file), 'utf8');
      return [...text.matchAll(/^ {8}(\w+)[<(]/gm)].map(([, name]) => name);
    });
  const prototype = tf.Tensor.prototype as unknown as Record<string, (...more: unknown[]) => tf.Tensor>;
  const own = Object.fromEntries(declared.map((name) => [name, prototype[name]]));

  test('compute the same as those of tfjs, and are complete', () => {
    assert.ok(declared.length > 130, `${declared.length}`);
    const x = tf.tensor2d([0.5, 0.25, 0.75, 0.1, 0.6, 0.9], [2, 3]);
    const other = tf.tensor2d([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [2, 3]);
    const [image, filter] = [tf.ones([1, 4, 4, 1]), tf.ones([2, 2, 1, 1])];
    const calls: Record<string, [tf.Tensor, ...unknown[]]> = {
      as2D: [x, 3, 2],
      as3D: [x, 3, 2, 1],
      as4D: [x, 3, 2, 1, 1],
      as5D: [x, 3, 2, 1, 1, 1],
      asScalar: [tf.tensor1d([3])],
      asType: [x, 'int32'],
      avgPool: [image, 2, 1, 'same'],
      batchNorm: [image, [0], [1], [0.5], [2]],
      batchToSpaceND: [
        tf.ones([4, 2, 2, 1]),
        [2, 2],
        [
          [0, 0],
          [0, 0],
        ],
      ],
      broadcastTo: [x, [2, 2, 3]],
      cast: [x, 'int32'],
      clipByValue: [x, 0.2, 0.6],
      concat: [x, [other, other], 1],
      conv1d: [tf.ones([1, 4, 1]), tf.ones([2, 1, 1]), 1, 'same'],
      conv2d: [image, filter, 1, 'same'],
      conv2dTranspose: [image, filter, [1, 4, 4, 1], 1, 'same'],
      depthToSpace: [tf.ones([1, 2, 2, 4]), 2],
      depthwiseConv2d: [image, filter, 1, 'same'],
      dilation2d: [image, tf.ones([2, 2, 1]), 1, 'same', 1],
      dot: [tf.tensor1d([1, 2]), tf.tensor1d([3, 4])],
      expandDims: [x, 1],
      fft: [tf.complex([1, 2], [0, 1])],
      gather: [x, ids([2, 0]), 1],
      ifft: [tf.complex([1, 2], [0, 1])],
      irfft: [tf.complex([1, 2], [0, 0])],
      localResponseNormalization: [image],
      logicalAnd: [tf.cast(x, 'bool'), tf.cast(other, 'bool')],
      logicalNot: [tf.cast(x, 'bool')],
      logicalOr: [tf.cast(x, 'bool'), tf.cast(other, 'bool')],
      logicalXor: [tf.cast(x, 'bool'), tf.cast(other, 'bool')],
      matMul: [x, other, false, true],
      maxPool: [image, 2, 1, 'same'],
      mirrorPad: [
        x,
        [
          [0, 0],
          [1, 1],
        ],
        'reflect',
      ],
      oneHot: [ids([0, 2]), 3],
      pad: [
        x,
        [
          [0, 0],
          [1, 1],
        ],
        7,
      ],
      pool: [image, 2, 'max', 'same', 1],
      reshape: [x, [3, 2]],
      reshapeAs: [x, tf.ones([3, 2])],
      resizeBilinear: [image, [2, 2], true],
      resizeNearestNeighbor: [image, [2, 2], true],
      rfft: [tf.tensor1d([1, 2])],
      separableConv2d: [image, filter, tf.ones([1, 1, 1, 1]), 1, 'same'],
      slice: [x, [0, 1], [2, 1]],
      spaceToBatchND: [
        image,
        [2, 2],
        [
          [0, 0],
          [0, 0],
        ],
      ],
      split: [x, 3, 1],
      squeeze: [tf.ones([1, 3])],
      stack: [x, other, 1],
      step: [x, 0.5],
      stridedSlice: [x, [0, 0], [2, 3], [1, 2]],
      tile: [x, [1, 2]],
      topk: [x, 2],
      unique: [tf.tensor1d([1, 2, 1])],
      unsortedSegmentSum: [x, ids([0, 0]), 1],
      unstack: [x, 1],
      where: [x, tf.tensor2d([1, 0, 1, 0, 1, 0], [2, 3], 'bool'), other],
    };
    const onlyOne = ['all', 'any'];
    const takesOther =
      /^(add|atan2|div|divNoNan|equal|floorDiv|greater|greaterEqual|less|lessEqual|maximum|minimum|mod|mul|notEqual|pow|prelu|squaredDifference|sub)$/;
    const read = (result: unknown): unknown =>
      result instanceof tf.Tensor
        ? [result.shape, result.dtype, [...result.dataSync()]]
        : Object.values(result as object).map(read);
    for (const name of declared) {
      // Every tensor has its own `cast`.
      if (name !== 'cast') delete prototype[name];
    }
    addChainedOperations();
    for (const name of declared) {
      const flags = onlyOne.includes(name) ? tf.cast(x, 'bool') : x;
      const [on, ...args] = calls[name] ?? (takesOther.test(name) ? [x, other] : [flags]);
      assert.deepEqual(read(prototype[name].apply(on, args)), read(own[name].apply(on, args)), name);
    }
    const gone = tf.scalar(1);
    gone.dispose();
    assert.throws(() => prototype.exp.apply(gone), /disposed/);
  });

  test('in plain Node, importing groupgrad/tfjs adds both, and keeps what exists', () => {
    const dist = (path: string) => JSON.stringify(new URL(`../../dist/${path}`, import.meta.url).href);
    const program = `
      import '@tensorflow/tfjs-backend-wasm';
      import * as tf from '@tensorflow/tfjs-core';
      const own = { kernelName: 'Exp', gradFunc: () => ({}) };
      tf.registerGradient(own);
      await import(${dist('tfjs.js')});
      await tf.setBackend('wasm');
      const f = (x) => x.mul(2).matMul(x.transpose()).relu().sum();
      const gradient = tf.grad(f)(tf.tensor2d([1, -2, 3, 4], [2, 2]));
      console.log(JSON.stringify([[...gradient.dataSync()], tf.getGradient('Exp') === own]));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      encoding: 'utf8',
    });
    // f = 2 Σ relu(x xᵀ); the products of rows are 5, -5 and 25, so df/dx = 4 x on the diagonal.
    assert.deepEqual(JSON.parse(stdout || stderr), [[4, -8, 12, 16], true]);
  });
});
