// The trainer computes a batch's loss from its logits, or from its final states if the logits would take too much memory: the same
// gradients of all weights and the same log-probs, also with truncated sampling.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { maxLogitBytes } from '../../src/devices/linear.js';
import { type LossConfig, presets } from '../../src/index.js';
import type { Policy } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import type { GrpoReport } from '../../src/tfjs/index.js';
import { batchLoss, batchValues, lossSource } from '../../src/train/batch-loss.js';
import { type CompletionBatch, completionBatch } from '../../src/train/completions.js';
import { fill, seeded } from '../support/random.js';

const vocab = 50;
let policy: Policy;
before(async () => {
  await startBackend('wasm');
  const vocabulary = { ...characterVocabulary('abcdef'), size: vocab };
  policy = createTransformer({ layers: 1, width: 8, heads: 2, keyValueHeads: 2, hidden: 12 }, vocabulary, 3);
});
after(() => policy.dispose());

function draw(seed: number, cut: boolean): CompletionBatch {
  const random = seeded(seed);
  const ids = (n: number) => Int32Array.from({ length: n }, () => random.integer(0, vocab - 1));
  const pairs = [3, 9, 6].map((n) => ({ prompt: ids(2 + n), completion: ids(n) }));
  const batch = completionBatch(pairs, { padding: 0, contextLength: 40 });
  if (!cut) return batch;
  // Each position keeps its token and two others, or all.
  const kept = Array.from(batch.targets, (token, i) =>
    i % 3 === 0 ? undefined : Int32Array.of(token, (token + 7) % vocab, (token + 20) % vocab),
  );
  return { ...batch, kept };
}

const config: LossConfig = { ...presets.grpo, kl: { beta: 0.1 }, entropy: { coefficient: 0.05 } };

function gradients(batch: CompletionBatch, most: number | undefined) {
  const { shape, targets: tokens, mask } = batch;
  const rows = shape.sequences * shape.length;
  const random = seeded(99);
  const about = () => fill(rows, () => -2 + 0.3 * random.normal());
  const input = {
    shape,
    tokens,
    mask,
    oldLogProbs: about(),
    refLogProbs: about(),
    advantages: Float32Array.of(1, -1, 0.5),
  };
  const variables = Object.values(policy.variables) as tf.Variable[];
  const reports: GrpoReport[] = [];
  let way = '';
  const { value, grads } = tf.variableGrads(() => {
    const source = lossSource(policy, batch, most);
    [way] = Object.keys(source);
    return batchLoss(source, policy, batch, input, config, {
      device: 'auto',
      onResult: (report) => void reports.push(report),
    });
  }, variables);
  const all = variables.map(({ name }) => Array.from(grads[name].dataSync()));
  const loss = value.dataSync()[0];
  tf.dispose([value, grads]);
  return { way, loss, all, report: reports[0] };
}

for (const cut of [false, true]) {
  test(`final states and logits give the same${cut ? ' over kept tokens' : ''}`, async () => {
    const batch = draw(1, cut);
    const [logits, hidden] = [gradients(batch, undefined), gradients(batch, 0)];
    assert.deepEqual([logits.way, hidden.way], ['logits', 'hidden']);
    assert.ok(Math.abs(logits.loss - hidden.loss) < 1e-6 * (1 + Math.abs(logits.loss)));
    logits.all.forEach((expected, w) => {
      const most = Math.max(...expected.map(Math.abs));
      assert.ok(most > 0);
      expected.forEach((x, i) => {
        assert.ok(Math.abs(hidden.all[w][i] - x) <= 2e-5 * most, `weight ${w}, ${i}: ${hidden.all[w][i]}, not ${x}`);
      });
    });
    await Promise.resolve();
    const before = tf.memory().numTensors;
    const options = { temperature: 1, device: 'auto' } as const;
    const [whole, chunks] = [batchValues(policy, batch, options), batchValues(policy, batch, options, 0)];
    assert.equal(tf.memory().numTensors, before);
    for (const field of ['logProbs', 'entropies'] as const) {
      whole[field].forEach((x, i) => {
        assert.ok(Math.abs(chunks[field][i] - x) < 1e-5, `${field}[${i}]`);
      });
    }
    assert.deepEqual(chunks.logProbs, hidden.report.logProbs);
  });
}

test('logits stay in memory up to 256 MiB; a policy without final states always uses them', () => {
  const batch = draw(2, false);
  const rows = batch.shape.sequences * batch.shape.length;
  const way = (own: Policy, most?: number) => tf.tidy(() => Object.keys(lossSource(own, batch, most))[0]);
  assert.equal(maxLogitBytes, 256 * 2 ** 20);
  assert.equal(way(policy, 4 * rows * vocab), 'logits');
  assert.equal(way(policy, 4 * rows * vocab - 1), 'hidden');
  const { hidden: _, ...without } = policy;
  assert.equal(way(without, 0), 'logits');
  const odd: Policy = {
    ...policy,
    hidden: (...args) => ({ ...policy.hidden!(...args), unembedding: tf.zeros([vocab, 3]) }),
  };
  assert.throws(() => tf.tidy(() => void lossSource(odd, batch, 0)), {
    name: 'RangeError',
    message: new RegExp(`^policy: expected hidden states \\[${rows}, D\\] and an unembedding \\[50, D\\], got `),
  });
});
