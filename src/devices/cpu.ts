// The CPU device: the addon's own operations, and the loss from hidden states over the engine's matrix products.

import { type LinearProducts, linearBlockRows, linearLoss, withGradients } from './linear.js';
import type { Addon, EngineAddon } from './load.js';
import type { Device, LinearPlan } from './plan.js';

/** The gradient with respect to the unembedding is accumulated in slices of this many bytes, which stay in a cache. */
const sliceBytes = 2 ** 20;

export function cpuDevice({ cpu, engine }: Addon): Device {
  return {
    computeAdvantages: cpu.computeAdvantages,
    policyLoss: cpu.policyLoss,
    logitsLoss: cpu.logitsLoss,
    logitsBackward: cpu.logitsBackward,
    linearLoss(plan) {
      const { gradHidden, gradUnembedding, threads } = plan;
      const before = engine.settings();
      if (threads > 0) engine.configure({ ...before, threads: Math.min(threads, before.threads) });
      try {
        const products = new EngineProducts(engine, plan);
        return withGradients(plan, linearLoss(plan, cpu, products, gradHidden !== null || gradUnembedding !== null));
      } finally {
        engine.configure(before);
      }
    },
  };
}

/** A product of the engine, C [m, n] = A [m, k] B [k, n], with the strides of both factors. */
interface Product {
  m: number;
  k: number;
  n: number;
  a: Float32Array;
  strideM: number;
  strideK: number;
  b: Float32Array;
  strideKB: number;
  strideN: number;
}

/** In the engine's products a row of C has the same bits whatever the other rows are (native/engine/operations.hpp). */
class EngineProducts implements LinearProducts {
  readonly floats = Float32Array;
  /** Logits of a chunk and, with a soft cap, their tanh. */
  private readonly chunk: Float32Array;
  private readonly tanh: Float32Array | undefined;
  /** Hidden states of a chunk's rows. */
  private readonly gathered: Float32Array;

  constructor(
    private readonly engine: EngineAddon,
    private readonly plan: LinearPlan,
  ) {
    const rows = Math.min(plan.chunkRows, plan.tokens.length);
    this.chunk = new Float32Array(rows * plan.vocab);
    if (plan.softCap < Infinity) this.tanh = new Float32Array(rows * plan.vocab);
    this.gathered = new Float32Array(rows * plan.hiddenSize);
  }

  logits(rows: Int32Array): Float32Array {
    const { hiddenSize: k, vocab: n, unembedding: b, softCap } = this.plan;
    const y = this.chunk.subarray(0, rows.length * n);
    this.multiply(
      { m: rows.length, k, n, a: this.gather(rows), strideM: k, strideK: 1, b, strideKB: 1, strideN: k },
      y,
    );
    if (this.tanh) {
      const tanh = this.tanh.subarray(0, y.length);
      this.binary('RealDiv', y, Float32Array.of(softCap), tanh);
      this.unary('Tanh', tanh);
      this.binary('Multiply', tanh, Float32Array.of(softCap), y);
    }
    return y;
  }

  backward(rows: Int32Array, gradLogits: Float32Array): void {
    const { hiddenSize, vocab, unembedding, gradHidden, gradUnembedding } = this.plan;
    if (this.tanh) {
      const slope = this.tanh.subarray(0, gradLogits.length);
      this.unary('Square', slope);
      this.binary('Sub', Float32Array.of(1), slope, slope);
      this.binary('Multiply', gradLogits, slope, gradLogits);
    }
    // First, because its input is about to be overwritten.
    if (gradUnembedding !== null) {
      const hidden = this.gather(rows);
      for (let begin = 0; begin < rows.length; begin += linearBlockRows) {
        const end = Math.min(rows.length, begin + linearBlockRows);
        this.addBlock(
          gradUnembedding as Float32Array,
          gradLogits.subarray(begin * vocab, end * vocab),
          hidden.subarray(begin * hiddenSize, end * hiddenSize),
          end - begin,
        );
      }
    }
    if (gradHidden !== null) {
      const [k, n] = [vocab, hiddenSize];
      const y = this.gathered.subarray(0, rows.length * n);
      this.multiply(
        { m: rows.length, k, n, a: gradLogits, strideM: k, strideK: 1, b: unembedding, strideKB: n, strideN: 1 },
        y,
      );
      rows.forEach((row, i) => {
        gradHidden.set(y.subarray(i * n, (i + 1) * n), row * n);
      });
    }
  }

  private addBlock(total: Float32Array, gradLogits: Float32Array, hidden: Float32Array, rows: number): void {
    const { hiddenSize: n, vocab } = this.plan;
    const slice = Math.max(1, Math.floor(sliceBytes / (4 * n)));
    const own = new Float32Array(Math.min(slice, vocab) * n);
    for (let begin = 0; begin < vocab; begin += slice) {
      const m = Math.min(slice, vocab - begin);
      const [a, y] = [gradLogits.subarray(begin), own.subarray(0, m * n)];
      this.multiply({ m, k: rows, n, a, strideM: 1, strideK: vocab, b: hidden, strideKB: n, strideN: 1 }, y);
      const sum = total.subarray(begin * n, (begin + m) * n);
      this.binary('Add', sum, y, sum);
    }
  }

  /** Hidden states of rows, without a copy if they are contiguous. */
  private gather(rows: Int32Array): Float32Array {
    const { hidden, hiddenSize } = this.plan;
    const [first, last] = [rows[0], rows[rows.length - 1]];
    if (last - first === rows.length - 1) return hidden.subarray(first * hiddenSize, (last + 1) * hiddenSize);
    const gathered = this.gathered.subarray(0, rows.length * hiddenSize);
    rows.forEach((row, i) => {
      gathered.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize);
    });
    return gathered;
  }

  private multiply({ m, k, n, a, strideM, strideK, b, strideKB, strideN }: Product, y: Float32Array): void {
    // Float32, one product, no activation, not added to y, no offsets of the factors.
    const numbers = Float64Array.of(0, 1, m, k, n, strideM, strideK, strideKB, strideN, -1, 0, 0, 0, 0);
    this.engine.matMul(numbers, a, b, null, y);
  }

  private unary(name: string, x: Float32Array): void {
    this.engine.unary(Float64Array.of(this.engine.unaryOperations.indexOf(name), x.length, 0), x, x);
  }

  /** Elementwise; an array of one value is broadcast. */
  private binary(name: string, a: Float32Array, b: Float32Array, y: Float32Array): void {
    const stride = (x: Float32Array) => Number(x.length === y.length);
    const numbers = Float64Array.of(this.engine.binaryOperations.indexOf(name), 1, y.length, stride(a), stride(b));
    this.engine.binary(numbers, a, b, y);
  }
}
