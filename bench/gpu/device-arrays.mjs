// The CUDA operations through the addon, with DeviceArrays, by the host's clock around many calls: compared with the same
// operations through the C entry, it shows the overhead of JavaScript. bench.py starts it and writes to its standard
// input what to measure; the rows go to standard output, as JSON. It runs from dist/ with plain Node.
//
// { samples, seconds,                                               seconds: the minimum duration of a sample
//   logits: [{ row, sequences, length, vocab, low, high }],         row: the fields of its rows besides the times
//   policy: [{ row, sequences, length, low, high, kl, groupSize, epsilon, anchor, hadwScale }] }

import { readFileSync } from 'node:fs';
import { DeviceArray, logitsLoss, policyLoss } from '../../dist/index.js';

const plan = JSON.parse(readFileSync(0, 'utf8'));
const rows = [];
const skipped = [];

/** Quantile of sorted samples. */
function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

/** `call` returns a result whose loss waits for it. */
function measure(row, contender, call) {
  const seconds = (calls) => {
    const begin = performance.now();
    let last;
    for (let i = 0; i < calls; i++) last = call();
    if (!Number.isFinite(last.loss)) throw new Error(`the loss is ${last.loss}`);
    return (performance.now() - begin) / 1e3;
  };
  seconds(3);
  const calls = Math.max(1, Math.ceil(plan.seconds / (seconds(3) / 3)));
  const samples = Array.from({ length: plan.samples }, () => (1e3 * seconds(calls)) / calls).sort((a, b) => a - b);
  rows.push({
    ...row,
    contender,
    role: 'addon',
    medianMs: quantile(samples, 0.5),
    p10Ms: quantile(samples, 0.1),
    p90Ms: quantile(samples, 0.9),
    samples: samples.length,
  });
}

/** Both uses: results that stay on the device, and a loss that is read after every call. */
function measureBoth(row, name, call) {
  try {
    measure(row, `${name}, by the host's clock`, call);
    measure(row, `${name}, loss read after every call, by the host's clock`, () => {
      const result = call();
      return { loss: result.loss };
    });
  } catch (error) {
    skipped.push({ operation: row.operation, size: row.size, contender: name, reason: error.message.split('\n')[0] });
  }
}

/** Float32 values of `value()`. */
function floats(length, value) {
  return Float32Array.from({ length }, value);
}

const uniform = (low, high) => low + (high - low) * Math.random();

/** Normal noise of deviation 2 in bfloat16, one block of it repeated. */
function randomLogits(length) {
  const block = floats(Math.min(length, 1 << 20), () => {
    return 2 * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  });
  const bits = new Uint32Array(block.buffer);
  const logits = new Uint16Array(length);
  logits.set(Uint16Array.from(bits, (b) => b >>> 16));
  for (let filled = bits.length; filled < length; filled *= 2)
    logits.copyWithin(filled, 0, Math.min(filled, length - filled));
  return logits;
}

function clip({ low, high }) {
  return { surrogate: { kind: 'clip', low, high } };
}

function benchLogits({ row, sequences, length, vocab, ...loss }) {
  const tokens = sequences * length;
  const held = [];
  const keep = (array) => {
    held.push(array);
    return array;
  };
  try {
    const host = randomLogits(tokens * vocab);
    const copies = [0, 1, 2].map(() => keep(DeviceArray.from(host, 'bfloat16')));
    const gradLogits = keep(DeviceArray.allocate('bfloat16', host.length));
    const input = {
      shape: { sequences, length, vocab },
      tokens: keep(DeviceArray.from(Int32Array.from({ length: tokens }, () => Math.floor(uniform(0, vocab))))),
      advantages: keep(DeviceArray.from(floats(sequences, () => uniform(-1, 1)))),
    };
    const { logProbs, entropies } = logitsLoss({ ...input, logits: copies[0] }, clip(loss), { gradient: false });
    input.oldLogProbs = keep(DeviceArray.from(logProbs.toArray().map((l) => l + uniform(-0.1, 0.1))));
    logProbs.free();
    entropies.free();
    let turn = 0;
    measureBoth(row, 'groupgrad through the addon, to an array of its own', () => {
      turn = (turn + 1) % copies.length;
      const result = logitsLoss({ ...input, logits: copies[turn] }, clip(loss), { gradLogits });
      result.logProbs.free();
      result.entropies.free();
      return result;
    });
  } finally {
    for (const array of held) array.free();
  }
}

function benchPolicy({ row, sequences, length, kl, groupSize, epsilon, anchor, hadwScale, ...loss }) {
  const tokens = sequences * length;
  const values = floats(tokens, () => uniform(-3, -0.1));
  const near = (distance) => DeviceArray.from(values.map((l) => l + uniform(-distance, distance)));
  const input = {
    shape: { sequences, length },
    logProbs: DeviceArray.from(values),
    oldLogProbs: near(0.1),
    refLogProbs: near(0.3),
    mask: DeviceArray.from(Uint8Array.from({ length: tokens }, () => (Math.random() < 0.6 ? 1 : 0))),
    rewards: DeviceArray.from(floats(sequences, () => Math.round(Math.random()))),
    advantage: { groupSize, epsilon, hadw: { anchor, scale: hadwScale } },
  };
  const gradLogProbs = DeviceArray.allocate('float32', tokens);
  measureBoth(row, 'groupgrad through the addon', () => {
    const result = policyLoss(input, { ...clip(loss), kl: { beta: kl } }, { gradLogProbs });
    const { advantages, weights, groupMean, groupStd, active } = result.advantage;
    for (const array of [advantages, weights, groupMean, groupStd, active]) array.free();
    return result;
  });
}

for (const shape of plan.policy) benchPolicy(shape);
for (const shape of plan.logits) {
  try {
    benchLogits(shape);
  } catch (error) {
    const { operation, size } = shape.row;
    skipped.push({ operation, size, contender: 'groupgrad through the addon', reason: error.message.split('\n')[0] });
  }
}
console.log(JSON.stringify({ rows, skipped }));
