// A language model from a folder, taught by GRPO + HA-DW and LoRA: stories that mention a dog and end early. The model is a Llama
// of 260,000 weights that writes short stories; any folder of a known family in Hugging Face's layout can take its place.
//
//   npx tsx examples/pretrained.ts [steps] [run folder] [model folder]

import { defineReward, type Example, GrpoTrainer, generate, PretrainedPolicy, presets, type Task } from 'groupgrad';

const [steps = '40', runDir = 'runs/example-pretrained', model = '../shared/models/stories260k'] =
  process.argv.slice(2);

const word = 'dog';
const maxTokens = 100;

/** Beginnings of stories. There is no right answer: rewards judge the text. */
function beginnings(name: string, prompts: readonly string[]): Task {
  return {
    name,
    size: prompts.length,
    example: (index): Example => ({ prompt: prompts[index], answer: '', solution: '', difficulty: 0 }),
    // What an evaluation counts: both at once. A story that was cut off scores 0.
    score: (text) => Number(text.includes(word)),
  };
}

const train = beginnings('beginnings', [
  'Once upon a time, there was a little girl named Lily.',
  'Once upon a time, there was a boy named Tim.',
  'One day, a cat went to the park.',
  'One day, a little boy named Ben was sad.',
  'There was a big tree.',
  'Sue and Tom like to play.',
  'A bird lived in a box.',
  'Mom and Anna are in the kitchen.',
]);
const heldOut = beginnings('held-out', [
  'Once upon a time, there was a little bear.',
  'One day, Sam and his mom went to the zoo.',
  'Lucy had a red ball.',
  'There was a man who lived by the sea.',
]);

const policy = await PretrainedPolicy.load(model, {
  lora: { rank: 8, alpha: 16, targets: 'all-linear' },
  // This model ends a story by beginning another: its files do not say so.
  endTokens: [1],
});

/** Shares of held-out stories, sampled as in training. */
async function measure(): Promise<string> {
  const prompts = Array.from({ length: heldOut.size! }, (_, i) => heldOut.example(i).prompt);
  const stories = await generate(policy, prompts, { maxTokens, samples: 16, seed: 1 });
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
  sampling: { maxTokens, promptLength: 32 },
  // The reference is the model without its adapter: what comes of it stays English.
  loss: { ...presets.dapo, kl: { beta: 0.05 } },
  hadw: {},
  optimizer: { learningRate: 4e-3, warmupSteps: 3 },
  seed: 1,
  runDir,
});

console.log(await measure());
await trainer.run({ max: Number(steps) });
const [story] = await generate(policy, [heldOut.example(0).prompt], { maxTokens, seed: 2 });
console.log(heldOut.example(0).prompt + story.text);
console.log(await measure());
await policy.save(`${runDir}/adapter`);
trainer.dispose();
