// On the backend groupgrad the log-probs of sampling equal those of training bit for bit, and the trainer
// requires it: for any number of threads and any division of a step, in both precisions of products, with weights in float32 and
// in bfloat16.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { Precision } from '../../src/backend/precision.js';
import { defineReward } from '../../src/index.js';
import type { Decoder, Policy, SequenceBatch } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { tokenLogProbsOf } from '../../src/rollout/generate.js';
import { policySampler } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import type { GrpoStep, TrainerOptions } from '../../src/train/api.js';
import { loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';
import { engine as api, noEngine as skip, useEngine } from '../support/engine.js';
import { tensorsOf, tinyConfig, writeModelFolder } from '../support/model-folder.js';
import { repeats } from '../support/sets.js';
import { temporaryFolder, tinyTask, tinyTrainer } from '../support/trainer.js';

function policyOf(precision: Precision = 'float32'): Policy {
  const size = { layers: 2, width: 16, heads: 4, keyValueHeads: 2, hidden: 24, precision };
  return createTransformer(size, characterVocabulary(tinyTask.characters!), 3);
}

/** An adapter on weights that are held in bfloat16. */
async function adaptedPolicy(t: TestContext, precision: Precision, targets: string, rank: number) {
  const sizes = { hidden_size: 48, intermediate_size: 72, num_attention_heads: 4, num_key_value_heads: 2 };
  const config = { ...tinyConfig, ...sizes };
  const folder = join(temporaryFolder(t), 'model');
  writeModelFolder(folder, { config, tensors: tensorsOf(config), type: 'BF16' });
  return loadPretrainedPolicy(folder, { lora: { rank, targets }, precision });
}

/** Such a policy, and what it is trained on. */
async function adapted(t: TestContext, precision: Precision, targets: string): Promise<Partial<TrainerOptions>> {
  const policy = await adaptedPolicy(t, precision, targets, 3);
  const prompts = ['a b c', 'd', 'e f', 'g a'];
  const example = (i: number) => ({ prompt: prompts[i], answer: '', solution: '', difficulty: 0 });
  // Truncated completions, whose score is 0, get rewards too.
  const letters = defineReward('letters', ({ completion }) => completion.text.split('c').length);
  return { policy, train: { name: 'words', size: prompts.length, example, score: () => 0 }, rewards: [letters] };
}

const kinds: Record<string, (t: TestContext, precision: Precision) => Promise<Partial<TrainerOptions>>> = {
  'every weight trained': async (_, precision) => ({ policy: policyOf(precision) }),
  'an adapter on weights in bfloat16': (t, precision) => adapted(t, precision, 'all-linear'),
  'an adapter of the unembedding too': (t, precision) => adapted(t, precision, '.*'),
};

/** A policy whose decoder's logits are slightly off. */
function inexact(decodesExactly: boolean): Policy {
  const policy = policyOf();
  const decode = (prompts: SequenceBatch, rows: Int32Array, tokens: number): Decoder => {
    const decoder = policy.decode(prompts, rows, tokens);
    let logits = tf.mul<tf.Tensor2D>(decoder.logits, 1.001);
    return {
      get logits() {
        return logits;
      },
      append: (next) => {
        decoder.append(next);
        logits.dispose();
        logits = tf.mul(decoder.logits, 1.001);
      },
      dispose: () => {
        logits.dispose();
        decoder.dispose();
      },
    };
  };
  return { ...policy, decodesExactly, decode };
}

describe('sampling and training on the backend groupgrad', { skip }, () => {
  useEngine();

  /** On one thread and on two in turn. */
  const stepCount = repeats(4, 6);

  const cuts: Record<string, Partial<TrainerOptions>> = {
    'micro-batches of one': { microBatchSize: 1 },
    'one micro-batch': { microBatchSize: 64 },
    'several updates per step': { miniBatches: 2, iterations: 2 },
    'a cut distribution': { sampling: { maxTokens: 6, temperature: 0.7, topK: 5 } },
  };
  for (const [name, cut] of Object.entries(cuts)) {
    for (const precision of ['float32', 'bfloat16'] as const) {
      for (const [kind, make] of Object.entries(kinds)) {
        test(`agree bit for bit: ${name}, ${kind}, ${precision}`, async (t) => {
          const trainer = await tinyTrainer(t, {
            ...(await make(t, precision)),
            sampling: { maxTokens: 6, temperature: 0.7 },
            ...cut,
          } as Partial<TrainerOptions>);
          let threads = 1;
          const steps: GrpoStep[] = [];
          api!.configureEngine({ threads });
          for await (const step of trainer.steps({ max: stepCount })) {
            steps.push(step);
            threads = 3 - threads;
            api!.configureEngine({ threads });
          }
          assert.equal(steps.length, stepCount);
          assert.ok(steps.some(({ metrics }) => metrics.grad_norm > 0));
          for (const { metrics } of steps) assert.equal(metrics['sampling/log_prob_difference_max'], 0);
        });
      }
    }
  }

  for (const precision of ['float32', 'bfloat16'] as const) {
    test(`log-probs in chunks are those of the sampler, with adapters of more rank than a block of a sum: ${precision}`, async (t) => {
      const policy = await adaptedPolicy(t, precision, '.*', 600);
      // As they are loaded the adapters add nothing.
      for (const variable of Object.values(policy.variables)) {
        const noise = tf.tidy(() => tf.mul(0.05, tf.randomNormal(variable.shape, 0, 1, 'float32', 5)));
        variable.assign(noise);
        noise.dispose();
      }
      const prompt = Int32Array.of(1, 4, 5);
      const request = { prompt, promptIndex: 0, sample: 0 };
      const [{ tokens, logProbs }] = await policySampler(policy).complete([request], {
        maxTokens: 6,
        temperature: 1,
        seed: 1,
        step: 0,
      });
      for (const most of [0, undefined]) {
        const [all] = await tokenLogProbsOf(policy, [Int32Array.of(...prompt, ...tokens)], 1, most);
        assert.deepEqual(all.slice(prompt.length - 1), logProbs, `logits up to ${most ?? 'the default'}`);
      }
      policy.dispose();
    });
  }

  test('a policy that says so and does not is refused; one that does not say so is measured', async (t) => {
    const run = async (policy: Policy) => {
      const trainer = await tinyTrainer(t, { policy });
      const { value } = await trainer.steps({ max: 1 }).next();
      return (value as GrpoStep).metrics['sampling/log_prob_difference_max'];
    };
    await assert.rejects(run(inexact(true)), /the sampler's log-probs differ .*decodesExactly/);
    assert.ok((await run(inexact(false))) > 0);
  });
});
