// Trains a language model from a folder by GRPO + HA-DW and LoRA to write stories that mention a dog and end early. The model is a Llama
// of 260,000 weights that writes short stories; any folder of a supported family in Hugging Face's layout can be used instead.
//
//   npx tsx examples/pretrained.ts [steps] [run folder] [model folder]

import { defineReward, type Example, GrpoTrainer, generate, PretrainedPolicy, presets, type Task } from 'groupgrad';

const [steps = '15', runDir = 'runs/example-pretrained', model = '../shared/models/stories260k'] =
  process.argv.slice(2);

const word = 'dog';
const maxTokens = 100;
// This model ends a story by beginning another one; its files do not say so.
const stopTokens = [1];

/** Beginnings of stories, some with an end. There is no right answer: rewards judge the text. */
function beginnings(name: string, stories: readonly (readonly [prompt: string, solution?: string])[]): Task {
  return {
    name,
    size: stories.length,
    example: (index): Example => {
      const [prompt, solution = ''] = stories[index];
      return { prompt, answer: '', solution, difficulty: 0 };
    },
    // A truncated story scores 0.
    score: (text) => Number(text.includes(word)),
  };
}

// The model never ends a story so early: a short warm start on these shows it how.
const train = beginnings('beginnings', [
  [
    'Once upon a time, there was a little girl named Lily.',
    ' She had a dog. They played in the park. Lily was very happy.',
  ],
  ['Once upon a time, there was a boy named Tim.', ' Tim liked to run. He ran and ran. Then he went home to his mom.'],
  ['One day, a cat went to the park.', ' The cat saw a big bird. The bird was nice. They became good friends.'],
  ['One day, a little boy named Ben was sad.', ' He lost his ball. His mom found it. Ben was not sad any more.'],
  ['There was a big tree.', ' A bird sat in the tree. It was so pretty. The bird sang all day.'],
  ['Sue and Tom like to play.', ' They have a dog. The dog likes to play too. They all have fun.'],
  ['A bird lived in a box.', ' It wanted to fly. One day it flew up to the sky. It was happy.'],
  ['Mom and Anna are in the kitchen.', ' They make a cake. The cake is good. They eat it all.'],
]);
const heldOut = beginnings('held-out', [
  ['Once upon a time, there was a little bear.'],
  ['One day, Sam and his mom went to the zoo.'],
  ['Lucy had a red ball.'],
  ['There was a man who lived by the sea.'],
]);

const policy = await PretrainedPolicy.load(model, {
  lora: { rank: 8, alpha: 16, targets: 'all-linear' },
});

/** Shares of held-out stories, sampled as in training. */
async function measure(): Promise<string> {
  const prompts = Array.from({ length: heldOut.size! }, (_, i) => heldOut.example(i).prompt);
  const stories = await generate(policy, prompts, { maxTokens, stopTokens, samples: 16, seed: 1 });
  const share = (of: (story: (typeof stories)[number]) => boolean) =>
    (stories.filter(of).length / stories.length).toFixed(2);
  const mentions = share(({ text }) => text.includes(word));
  const ends = share(({ truncated }) => !truncated);
  const both = share(({ text, truncated }) => !truncated && text.includes(word));
  return `held-out stories: ${mentions} mention a ${word}, ${ends} end within ${maxTokens} tokens, ${both} do both`;
}

const trainer = await GrpoTrainer.create({
  policy,
  train,
  rewards: [
    defineReward('mentions', ({ completion }) => Number(completion.text.includes(word))),
    defineReward('ends', ({ completion }) => Number(!completion.truncated)),
  ],
  promptsPerStep: 8,
  groupSize: 8,
  sampling: { maxTokens, promptLength: 32, stopTokens },
  warmStart: { steps: 10, batchSize: 8, optimizer: { learningRate: 4e-3 } },
  // The reference is the model without its adapter: the KL term keeps the stories English.
  loss: { ...presets.dapo, kl: { beta: 0.03 } },
  hadw: {},
  optimizer: { learningRate: 4e-3, warmupSteps: 3 },
  seed: 1,
  runDir,
});

console.log(await measure());
await trainer.start({ output: process.stdout });
console.log(await measure());
await trainer.run({ max: Number(steps) });
const [story] = await generate(policy, [heldOut.example(0).prompt], { maxTokens, stopTokens, seed: 2 });
console.log(heldOut.example(0).prompt + story.text);
console.log(await measure());
await policy.save(`${runDir}/adapter`);
trainer.dispose();
