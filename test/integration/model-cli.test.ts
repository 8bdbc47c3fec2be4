// The command line with models from folders: training without a configuration file, inspecting the run, export, generation.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { quickBackend } from '../support/backend.js';
import { callInThread } from '../support/cli.js';
import { words, writeModelFolder } from '../support/model-folder.js';
import { readLines, temporaryFolder } from '../support/trainer.js';

function succeed(...args: string[]): string {
  const { status, stdout, stderr } = callInThread(...args);
  assert.equal(status, 0, `${args.join(' ')}\n${stdout}\n${stderr}`);
  return stdout;
}

test('a model is trained on a file by flags only, inspected, and exported', (t) => {
  const parent = temporaryFolder(t);
  const model = writeModelFolder(join(parent, 'words'));
  const data = join(parent, 'problems.jsonl');
  const questions = words.flatMap((first) => words.map((second) => `${first} ${second}`));
  const problems = questions.map((question) => JSON.stringify({ question, right: 'c' }));
  writeFileSync(data, `${problems.join('\n')}\n`);
  const runDir = join(parent, 'run');
  const flags = ['--model', model, '--data', data, '--prompt', 'question', '--answer', 'right', '--verify', 'exact'];
  const sizes = ['--lora', '2', '--hadw', '--max-tokens', '4', '--set', 'promptsPerStep=2', '--set', 'groupSize=4'];
  const train = ['train', ...flags, ...sizes, '--run', runDir, '--backend', quickBackend];
  succeed(...train, '--steps', '2', '--set', 'optimizer.learningRate=0.05');
  const config = JSON.parse(readFileSync(join(runDir, 'config.json'), 'utf8'));
  assert.deepEqual(config.identity.policy.lora, { rank: 2, alpha: null, targets: 'all-linear', seed: 0 });
  assert.equal(config.identity.settings.sampling.maxTokens, 4);
  assert.equal(config.identity.settings.hadw.scale > 0, true);
  // It resumes with the same flags.
  succeed(...train, '--steps', '3', '--set', 'optimizer.learningRate=0.05');
  assert.deepEqual(
    readLines(join(runDir, 'metrics.jsonl')).map(({ step }) => step),
    [0, 1, 2, 3],
  );
  const backend = ['--backend', quickBackend];
  const sampled = JSON.parse(succeed('sample', runDir, 'a b', '--json', ...backend));
  assert.equal(typeof sampled.completion, 'string');
  assert.match(succeed('export', runDir, '--to', join(parent, 'adapter'), ...backend), /adapter: step 3 of /);
  assert.ok(existsSync(join(parent, 'adapter/adapter_model.safetensors')));
  succeed('export', runDir, '--to', join(parent, 'merged'), '--merge', ...backend);
  assert.ok(existsSync(join(parent, 'merged/tokenizer.json')));
  // The adapter and the merged model write the same.
  const write = (folder: string, ...more: string[]) =>
    JSON.parse(succeed('generate', folder, 'b a', '--max-tokens', '5', '--json', ...backend, ...more))
      .tokens as number[];
  assert.deepEqual(write(join(parent, 'merged')), write(model, '--adapter', join(parent, 'adapter')));
});

test('incorrect calls are usage errors', (t) => {
  const model = writeModelFolder(join(temporaryFolder(t), 'words'));
  const wrong: [string[], RegExp][] = [
    [['train', '--model', model], /^groupgrad: --model: requires --data/],
    [['train', 'addition', '--lora', '4'], /^groupgrad: --lora: requires --model/],
    [
      ['train', '--model', model, '--data', 'x', '--verify', 'exact', '--lora', 'many'],
      /^groupgrad: --lora: expected an integer/,
    ],
    [['train', 'addition', '--model', model, '--data', 'x'], /^groupgrad: expected no argument, got addition/],
    [
      ['train', '--model', model, '--data', 'nowhere.jsonl', '--verify', 'exact'],
      /^groupgrad: --data: expected a readable file, got ".*nowhere\.jsonl": there is no such file\n$/,
    ],
    [
      ['train', '--model', model, '--data', 'examples/sums.csv', '--prompt', 'question', '--verify', 'exact'],
      /^groupgrad: --data: .*sums\.csv:2: prompt: expected the column "question", got a row with /,
    ],
    [
      [
        'train',
        '--model',
        model,
        '--data',
        'examples/sums.csv',
        '--prompt',
        'sum',
        '--answer',
        'result',
        '--verify',
        'exact',
        '--eval-data',
        'nowhere.csv',
      ],
      /^groupgrad: --eval-data: .*nowhere\.csv": there is no such file\n$/,
    ],
    [
      ['train', '--model', model, '--data', 'examples/sums.csv', '--verify', 'math'],
      /^groupgrad: --verify: expected one of maths, gsm8k, number, choice, exact, got "math"\n$/,
    ],
    [['export', 'nowhere'], /^groupgrad: --to: expected the path of a folder, got nothing/],
    [['export', 'nowhere', '--to', 'x'], /^groupgrad: nowhere: expected a run folder/],
    [['generate', 'nowhere', 'a'], /^groupgrad: nowhere: expected a model folder with config\.json, got none/],
    [['generate', model, 'a', '--chat'], /^groupgrad: prompts\[0\]: expected no chat: the policy has no chat template/],
  ];
  for (const [args, message] of wrong) {
    const { status, stderr } = callInThread(...args);
    assert.match(stderr.replace(/^[\s\S]*?(?=groupgrad: )/, ''), message, args.join(' '));
    assert.equal(status, 2, args.join(' '));
  }
});
