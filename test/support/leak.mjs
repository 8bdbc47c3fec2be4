// Repeats each kind of call and prints how much resident memory grew, in bytes per call: the median of five parts, because a
// leak grows in every part, while the collector and malloc take or give back memory in some. A process of its own, with
// --expose-gc and `typescript` of native.ts: `leak.mjs <calls>`.

const { computeAdvantages, linearLoss, logitsBackward, logitsLoss, policyLoss } = await import('../../src/index.ts');
const { planAdvantages, planLogits } = await import('../../src/loss/request.ts');
const { loadAddon } = await import('../../src/devices/load.ts');

const calls = Number(process.argv[2]);
const { cpu } = loadAddon().addon;
const device = 'cpu';
const config = { surrogate: { kind: 'clip', low: 0.2, high: 0.2 }, kl: { beta: 0.1 } };
const shape = { sequences: 2, length: 4 };
const tokens = {
  oldLogProbs: new Float32Array(8).fill(-1),
  refLogProbs: new Float32Array(8).fill(-1),
  mask: new Uint8Array(8).fill(1),
};
const logits = {
  ...tokens,
  shape: { ...shape, vocab: 16 },
  logits: new Float32Array(128),
  tokens: new Int32Array(8),
  advantages: new Float32Array(2),
};
const policy = {
  ...tokens,
  shape,
  logProbs: new Float32Array(8).fill(-1.1),
  rewards: [0, 1],
  advantage: { groupSize: 2, hadw: {} },
};
const rows = { ...logits, shape: { rows: 8, vocab: 16 }, gradLogProbs: new Float32Array(8).fill(0.1) };
for (const field of ['oldLogProbs', 'refLogProbs', 'advantages']) delete rows[field];
const linear = {
  ...tokens,
  shape: { ...shape, hiddenSize: 3, vocab: 16 },
  hidden: new Float32Array(24).fill(1),
  unembedding: new Float32Array(48).fill(0.1),
  tokens: new Int32Array(8),
  advantages: new Float32Array(2).fill(1),
};
const badPlan = { ...planLogits(logits, config), tokens: new Int32Array(8).fill(16) };
const { plan, output } = planAdvantages([0, 1], { groupSize: 2 });
const badOutput = { ...output, weights: new Float32Array(3) };

function refused(call) {
  try {
    call();
  } catch (error) {
    if (error instanceof RangeError) return;
    throw error;
  }
  throw new Error('expected the call to be refused');
}

const kinds = {
  computeAdvantages: () => computeAdvantages([0, 1, 1, 0], { groupSize: 2, hadw: { anchor: 0.5 } }, { device }),
  policyLoss: () => policyLoss(policy, config, { device }),
  logitsLoss: () => logitsLoss(logits, config, { device }),
  logitsBackward: () => logitsBackward(rows, { device }),
  linearLoss: () => linearLoss(linear, config, { device }),
  'a call that the host refuses': () => refused(() => logitsLoss({ ...logits, temperature: 0 }, config, { device })),
  'a loss that the addon refuses': () => refused(() => cpu.logitsLoss(badPlan)),
  'advantages that the addon refuses': () => refused(() => cpu.computeAdvantages(plan, badOutput)),
};

/** Resident memory after garbage collection. A turn of the event loop frees the buffers' memory too. */
async function resident() {
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage.rss();
}

/** Collected from time to time, so that the heap does not grow freely. */
async function repeat(call, count) {
  for (let i = 0; i < count; i++) {
    call();
    if (i % 10000 === 9999) await resident();
  }
}

const parts = 5;
const growth = {};
for (const call of Object.values(kinds)) await repeat(call, calls / parts); // compiled, and every memory pool at its final size
for (const [name, call] of Object.entries(kinds)) {
  await repeat(call, calls / parts);
  const grown = [];
  let before = await resident();
  for (let part = 0; part < parts; part++) {
    await repeat(call, calls / parts);
    const after = await resident();
    grown.push((after - before) / (calls / parts));
    before = after;
  }
  growth[name] = grown.sort((a, b) => a - b)[(parts - 1) / 2];
}
console.log(JSON.stringify(growth));
