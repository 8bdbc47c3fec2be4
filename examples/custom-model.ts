// A user-defined tfjs model as the policy: two dense layers over the last four tokens.
//
//   npx tsx examples/custom-model.ts [steps] [run folder]

import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { characterVocabulary, defineReward, GrpoTrainer, presets, tasks } from 'groupgrad';
import { definePolicy, type SequenceBatch } from 'groupgrad/tfjs';

const [steps = '60', runDir = 'runs/example-custom-model'] = process.argv.slice(2);

await tf.setBackend('cpu');

const train = tasks.addition({ digits: 1, seed: 1 });
const vocabulary = characterVocabulary(train.characters);
const [seen, hidden] = [4, 32];

const weights = (name: string, shape: [number, number]) =>
  tf.variable(tf.randomNormal(shape, 0, 1 / Math.sqrt(shape[0]), 'float32', name.length), true, name);
const variables = {
  first: weights('first', [seen * vocabulary.size, hidden]),
  firstBias: tf.variable(tf.zeros([hidden]), true, 'firstBias'),
  second: weights('second', [hidden, vocabulary.size]),
  secondBias: tf.variable(tf.zeros([vocabulary.size]), true, 'secondBias'),
};

/** The last `seen` tokens at each position as one-hot rows; zeros before a sequence begins. */
function lastTokens({ sequences, length, tokens, starts }: SequenceBatch, from: number): tf.Tensor2D {
  const columns = length - from;
  const rows = new Float32Array(sequences * columns * seen * vocabulary.size);
  for (let b = 0; b < sequences; b++) {
    for (let column = from; column < length; column++) {
      const row = b * columns + column - from;
      for (let back = 0; back < seen && column - back >= starts[b]; back++) {
        rows[(row * seen + back) * vocabulary.size + tokens[b * length + column - back]] = 1;
      }
    }
  }
  return tf.tensor2d(rows, [sequences * columns, seen * vocabulary.size]);
}

const policy = definePolicy({
  vocabulary,
  variables,
  description: { model: 'two dense layers', seen, hidden },
  // Row (b, i) predicts the token that follows position from + i of sequence b. Without `decode`, sampling calls this too.
  logits: (batch, from = 0) =>
    tf.tidy(() => {
      const inner = tf.relu(tf.add(tf.matMul(lastTokens(batch, from), variables.first), variables.firstBias));
      return tf.add(tf.matMul(inner, variables.second), variables.secondBias);
    }),
});

const trainer = await GrpoTrainer.create({
  policy,
  train,
  rewards: [
    defineReward('right', ({ score }) => score),
    defineReward('begins', ({ completion, example }) => (completion.text[0] === example.answer[0] ? 0.2 : 0)),
  ],
  evaluate: { same: tasks.addition({ digits: 1, seed: 2, size: 100 }) },
  warmStart: { steps: 400, until: 0.4, optimizer: { learningRate: 1e-2 } },
  loss: presets.gspo,
  optimizer: { learningRate: 1e-2 },
  runDir,
});

await trainer.run({ max: Number(steps) });
const { same } = await trainer.evaluate();
console.log(`${same.correct} of ${same.count} right`);
trainer.dispose();
