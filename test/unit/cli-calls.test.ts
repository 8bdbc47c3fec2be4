// Incorrect calls of every command are usage errors (exit code 2) in the words of the call; other errors are not.

import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { UsageError } from '../../src/cli/arguments.js';
import { bias } from '../../src/cli/bias.js';
import { compare } from '../../src/cli/compare.js';
import { data } from '../../src/cli/data.js';
import { doctor } from '../../src/cli/doctor.js';
import { evaluate } from '../../src/cli/evaluate.js';
import { report } from '../../src/cli/report.js';
import { sample } from '../../src/cli/sample.js';
import { settings } from '../../src/cli/settings.js';
import { train } from '../../src/cli/train.js';
import { verify } from '../../src/cli/verify.js';
import { createTrainer } from '../../src/train/grpo.js';
import { tinyOptions, tinyPolicy } from '../support/trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-calls-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

const tiny = {
  train: { task: 'addition', digits: 1 },
  policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
  promptsPerStep: 2,
  groupSize: 2,
  backend: 'cpu',
  steps: 1,
};
const comparison = {
  base: { ...tiny, evaluation: { every: 2 } },
  variants: { one: {}, two: { groupSize: 4 } },
  seeds: 1,
  probe: { task: { task: 'addition', digits: 1 }, size: 8 },
};
const files: Record<string, unknown> = {
  'tiny.json': tiny,
  'wrong.json': { ...tiny, groupSize: 'eight' },
  'comparison.json': comparison,
  'wrong-comparison.json': { ...comparison, seeds: 'many' },
};

before(async () => {
  for (const [name, content] of Object.entries(files)) writeFileSync(at(name), JSON.stringify(content));
  writeFileSync(at('broken.json'), '{ "train": ');
  writeFileSync(at('sums.csv'), 'prompt,answer\n1+1=,2\n');
  writeFileSync(at('settings.yaml'), 'train: addition');
  mkdirSync(at('empty'));
  mkdirSync(at('folder.json'));
  await startBackend('cpu');
  // A run that a program started itself: there is no configuration file.
  const policy = tinyPolicy();
  const trainer = await createTrainer(tinyOptions({ policy, runDir: at('run'), evaluation: { atStart: false } }));
  await trainer.start();
  trainer.dispose();
  policy.dispose();
  cpSync(at('run'), at('corrupted'), { recursive: true });
  writeFileSync(join(at('corrupted'), 'checkpoints', 'step-00000000', 'weights.safetensors'), '');
});

const commands = { bias, compare, data, doctor, evaluate, report, sample, settings, train, verify };
type Call = [command: keyof typeof commands, ...args: string[]];

async function failure([command, ...args]: Call): Promise<Error> {
  try {
    await commands[command](args);
  } catch (error) {
    return error as Error;
  }
  return assert.fail(`${command} ${args.join(' ')} did not fail`);
}

function refuses(isUsage: boolean, cases: readonly [Call, RegExp][]): void {
  for (const [call, message] of cases) {
    test(call.map((part) => part.replace(`${folder}/`, '')).join(' '), async () => {
      const filled = call.map((part) => part.replaceAll('DIR', folder)) as Call;
      const error = await failure(filled);
      assert.equal(error instanceof UsageError, isUsage, `${error}`);
      assert.match(error.message.replaceAll(folder, 'DIR'), message);
      assert.ok(!existsSync(at('new')), 'a folder was made');
    });
  }
}

describe('an incorrect call', () => {
  refuses(true, [
    // Too few and too many arguments.
    [['train'], /^expected a task or configuration file, got nothing$/],
    [['train', 'addition', 'copy'], /^expected a task or configuration file, got addition copy$/],
    [['evaluate'], /^expected a model folder or a run folder, got nothing$/],
    [['data'], /^expected a data file, got nothing$/],
    [['verify'], /^expected a file of completions, got nothing$/],
    [['sample', 'DIR/run'], /^expected a run folder and a prompt, got DIR\/run$/],
    [['report'], /^expected a run folder or the folder of a comparison, got nothing$/],
    [['compare'], /^expected a comparison file, got nothing$/],
    [['bias', '3'], /^expected no argument, got 3$/],
    [['settings', 'sampling', 'loss'], /^expected a path, got sampling loss$/],
    [['settings', 'samplin'], /^samplin: expected one of promptsPerStep, .*, or a path below it$/],
    [['doctor', 'cuda'], /^expected no argument, got cuda$/],
    // Unknown flags, flags without a value, and impossible values.
    [['train', 'addition', '--step', '3'], /^--step: unknown flag; did you mean --steps\?$/],
    [['report', 'DIR/run', '--json'], /^--json: unknown flag; see --help$/],
    [['doctor', '--verbose'], /^--verbose: unknown flag; see --help$/],
    [['train', 'addition', '--run'], /^--run: expected a value, got nothing$/],
    [['train', 'addition', '--run', ''], /^--run: expected a value, got ""$/],
    [['train', 'addition', '--resume', ''], /^--resume: expected a value, got ""$/],
    [['bias', '--out', ''], /^--out: expected a value, got ""$/],
    [['train', 'addition', '--steps', '1.5'], /^--steps: expected an integer at least 0, got "1\.5"$/],
    [['train', 'addition', '--steps=-1'], /^--steps: expected an integer at least 0, got "-1"$/],
    [['train', 'addition', '--seed', 'x'], /^--seed: expected an integer/],
    [
      ['train', 'addition', '--backend', 'webgl'],
      /^--backend: expected one of groupgrad, tensorflow, wasm, cpu, got "webgl"$/,
    ],
    [
      ['train', 'addition', '--resume', 'DIR/none'],
      /^--resume: expected a checkpoint or a run folder, got "DIR\/none"$/,
    ],
    [['train', 'addition', '--resume', 'DIR/empty'], /^--resume: expected a checkpoint or a run folder, got/],
    [['train', 'addition', '--run', 'DIR/tiny.json'], /^--run: expected the path of a folder, got ".*tiny\.json"/],
    [['evaluate', 'DIR/run', '--size', '0'], /^--size: expected an integer at least 1, got "0"$/],
    [['evaluate', 'DIR/run', '--backend', 'gpu'], /^--backend: expected one of/],
    [['train', 'addition', '--precision', 'half'], /^--precision: expected one of float32, bfloat16, got "half"$/],
    [['evaluate', 'DIR/run', '--precision', 'bfloat16'], /^--precision: expected a model folder, got a run/],
    [['train', 'addition', '--dtype', 'bfloat16'], /^--dtype: requires --model$/],
    [
      ['train', 'DIR/tiny.json', '--precision', 'bfloat16'],
      /^--set policy\.precision: expected 'float32' on the backend cpu, got 'bfloat16', which needs the backend groupgrad/,
    ],
    [['evaluate', 'DIR/run', '--by', 'subject'], /^--by: requires --data$/],
    [['evaluate', 'DIR/run', '--out', 'DIR/new'], /^--out: requires --data or --task$/],
    [
      ['evaluate', 'DIR/run', '--data', 'DIR/sums.csv', '--verify', 'maths', '--task', 'copy'],
      /^--task: expected one of --data and --task, got both$/,
    ],
    [
      ['evaluate', 'DIR/run', '--samples', '2', '--temperature', '0'],
      /^--temperature: expected a number above 0 for 2 samples/,
    ],
    [['evaluate', 'DIR/run', '--top-p', '0'], /^--top-p: expected a finite number above 0 and at most 1, got "0"$/],
    [['evaluate', 'DIR/run', '--data', 'DIR/sums.csv'], /^--data: requires --verify or --benchmark$/],
    [
      ['evaluate', 'DIR/run', '--data', 'DIR/sums.csv', '--verify', 'sum'],
      /^--verify: expected one of maths, .*, got "sum"$/,
    ],
    [
      ['evaluate', 'DIR/run', '--data', 'DIR/none.csv', '--verify', 'maths'],
      /^--data: expected a readable file, got .*: there is no such file$/,
    ],
    [
      ['evaluate', 'DIR/run', '--against', 'DIR/empty', '--task', 'copy'],
      /^--against: expected the folder of an evaluation, got/,
    ],
    [['data', 'DIR/sums.csv', '--model', 'DIR/empty'], /^--model: requires the columns of the problems/],
    [
      ['data', 'DIR/sums.csv', '--part', 'train', '--hold-out', '2'],
      /^--hold-out: expected a finite number at least 0 and at most 1/,
    ],
    [['verify', 'DIR/sums.csv'], /^--verify: expected one of maths/],
    [
      ['verify', 'DIR/sums.csv', '--verify', 'maths'],
      /sums\.csv:2: completion: expected the column "completion", got a row with prompt, answer$/,
    ],
    [
      ['verify', 'DIR/sums.csv', '--verify', 'maths', '--second', 'maths'],
      /^--second: expected a grader other than that of --verify, got maths$/,
    ],
    [['train', 'addition', '--lora', '8'], /^--lora: requires --model$/],
    [['train', '--data', 'DIR/sums.csv'], /^--data: requires --model$/],
    [['train', '--model', 'DIR/empty', '--hadv'], /^--hadv: unknown flag; did you mean --hadw\?$/],
    [['train', '--model', 'DIR/empty', '--hadw=1'], /^--hadw: expected no value$/],
    [
      ['train', '--model', 'DIR/none', '--data', 'DIR/sums.csv', '--verify', 'maths'],
      /^--model: .*none: expected a folder with tokenizer\.json, got no such folder$/,
    ],
    [['train', '--model', 'DIR/empty'], /^--model: requires --data$/],
    [['train', '--model', 'DIR/empty', '--data', 'DIR/sums.csv'], /^--data: requires --verify or --benchmark$/],
    [
      ['train', '--model', 'DIR/empty', '--data', 'DIR/sums.csv', '--verify', 'maths', '--part', 'train'],
      /^--part: expected nothing/,
    ],
    [['train', '--model', 'DIR/empty', '--data', 'DIR/sums.csv', '--verify', 'maths'], /tokenizer\.json/],
    [['evaluate', 'DIR/run', '--checkpoint', 'DIR/none'], /^--checkpoint: expected a checkpoint or a run folder, got/],
    [['evaluate', 'DIR/run', '--task', 'adition'], /^--task: expected one of 'addition'.*, got "adition"$/],
    [['evaluate', 'DIR/run', '--task', '{"task"'], /^--task: /],
    [['evaluate', 'DIR/run', '--task', '{"digits":3}'], /^--task: /],
    [
      ['evaluate', 'DIR/run', '--task', '{"task":"addition","digits":9}'],
      /^--task: digits: expected an integer at least 1/,
    ],
    [
      ['evaluate', 'DIR/run', '--task', '{"task":"jsonl","path":"DIR/none.jsonl"}'],
      /^--task: path: .*: there is no such file$/,
    ],
    [['evaluate', 'DIR/run', '--task', 'copy'], /^copying 1 to 8 letters, prompt "\w+=": text: expected characters of/],
    [['evaluate', 'DIR/run'], /run: it has no evaluation tasks; use --data or --task$/],
    [['sample', 'DIR/run', '1+2=', '--count', '0'], /^--count: /],
    [
      ['sample', 'DIR/run', '1+2=', '--temperature=-1'],
      /^--temperature: expected a finite number at least 0, got "-1"$/,
    ],
    [['sample', 'DIR/run', '1+2=', '--max-tokens', 'x'], /^--max-tokens: /],
    [['sample', 'DIR/run', '1+2=', '--checkpoint', 'DIR/empty'], /^--checkpoint: /],
    [['sample', 'DIR/run', ''], /^prompt: expected a non-empty string, got ""$/],
    [['sample', 'DIR/run', '1*2='], /^text: expected characters of "0123456789\+=", got "1\*2="$/],
    [['compare', 'DIR/comparison.json', '--jobs', '0'], /^--jobs: /],
    [['bias', '--group-sizes', '1'], /^--group-sizes: /],
    // Names and files that do not exist, or are of the wrong kind.
    [['train', 'adition'], /^adition: no such file, and no built-in configuration \(.*addition.*\)$/],
    [['train', ''], /no such file/],
    [['train', 'DIR/none.json'], /^DIR\/none\.json: no such file/],
    [['train', 'DIR/folder.json'], /^DIR\/folder\.json: expected a file, got a folder$/],
    [['train', 'DIR/settings.yaml'], /^config: expected a TypeScript, JavaScript or JSON file, got /],
    [['compare', 'DIR/none.ts'], /^DIR\/none\.ts: no such file$/],
    [['compare', 'DIR/empty'], /^DIR\/empty: expected a file, got a folder$/],
    [['compare', 'DIR/settings.yaml'], /^config: expected a TypeScript, JavaScript or JSON file/],
    [['evaluate', 'DIR/none'], /^DIR\/none: expected a run folder, got one without a config\.json$/],
    [['sample', 'DIR/empty', '1+2='], /^DIR\/empty: expected a run folder/],
    [['report', 'DIR/none'], /^DIR\/none: expected a run folder or/],
    [['report', 'DIR/tiny.json'], /tiny\.json: expected a run folder or/],
    // --set: its syntax, and configurations that it makes invalid.
    [['train', 'DIR/tiny.json', '--set', 'x'], /^--set: expected path=value, got "x"$/],
    [['train', 'DIR/tiny.json', '--set', 'loss..beta=1'], /^--set loss\.\.beta: expected names between the dots/],
    [['train', 'DIR/tiny.json', '--set', 'steps.x=1'], /^--set steps\.x: expected steps to be an object/],
    [
      ['train', 'DIR/tiny.json', '--set', 'groupSize=eight'],
      /^--set groupSize: expected an integer at least 2, got "eight"$/,
    ],
    [
      ['train', 'DIR/tiny.json', '--set', 'sampling.temperature=0'],
      /^--set sampling\.temperature: expected a finite number/,
    ],
    [['train', 'DIR/tiny.json', '--set', 'sampling={"temperature":0}'], /^--set sampling\.temperature: expected/],
    [['train', 'DIR/tiny.json', '--set', 'groupSise=4'], /^--set groupSise: unknown field/],
    [['train', 'DIR/tiny.json', '--set', 'loss=gpro'], /^--set loss\.preset: expected one of 'grpo'/],
    [['train', 'DIR/tiny.json', '--set', 'train.digits=9'], /^--set train\.digits: expected an integer at least 1/],
    [['train', 'DIR/tiny.json', '--set', 'train.task=adition'], /^--set train\.task: expected one of/],
    [['train', 'DIR/tiny.json', '--set', 'steps=-1'], /^--set steps: expected an integer at least 0, got -1$/],
    [['train', 'DIR/tiny.json', '--set', 'backend=webgl'], /^--set backend: expected one of 'groupgrad'/],
    [['train', 'DIR/tiny.json', '--set', 'runDir=x'], /^--set runDir: expected nothing/],
    [
      ['train', 'DIR/tiny.json', '--set', 'policy.width=7'],
      /^--set policy\.width: expected a multiple of twice the 2 heads, got 7$/,
    ],
    [
      ['train', 'DIR/tiny.json', '--set', 'policy.preset=huge', '--run', 'DIR/new'],
      /^--set policy\.preset: expected one of/,
    ],
    [
      ['train', 'DIR/tiny.json', '--set', 'groupSize=1', '--dry-run'],
      /^--set groupSize: expected an integer at least 2, got 1$/,
    ],
    // If a setting is only wrong in combination with others, the assignment is named.
    [
      ['train', 'DIR/tiny.json', '--set', 'groupSize=4', '--set', 'optimizer.schedule=cosine'],
      /^--set optimizer\.schedule=cosine: optimizer\.totalSteps: expected a count with schedule 'cosine', got nothing$/,
    ],
    [['compare', 'DIR/comparison.json', '--set', 'y'], /^--set: expected path=value, got "y"$/],
    [
      ['compare', 'DIR/comparison.json', '--set', 'seeds=0', '--out', 'DIR/new'],
      /^--set seeds: expected an integer at least 1/,
    ],
    [['compare', 'DIR/comparison.json', '--set', 'probe.size=many'], /^--set probe\.size: /],
    [
      ['compare', 'DIR/comparison.json', '--set', 'base.groupSize=1', '--out', 'DIR/new'],
      /^--set base\.groupSize=1: variants\.one: groupSize: expected an integer at least 2, got 1$/,
    ],
  ]);
});

describe('an error elsewhere is a failure, not a usage error', () => {
  refuses(false, [
    [['train', 'DIR/broken.json'], /^DIR\/broken\.json: /],
    [['train', 'DIR/wrong.json'], /^groupSize: expected an integer at least 2, got "eight"$/],
    // The file is wrong with and without the change.
    [
      ['train', 'DIR/wrong.json', '--set', 'promptsPerStep=4'],
      /^groupSize: expected an integer at least 2, got "eight"$/,
    ],
    [['compare', 'DIR/wrong-comparison.json'], /^seeds: expected a count or an array of seeds, got "many"$/],
    [['evaluate', 'DIR/corrupted', '--task', 'addition'], /corrupted: no checkpoint is intact/],
    [['sample', 'DIR/corrupted', '1+2='], /corrupted: no checkpoint is intact/],
    [['sample', 'DIR/run', '1+2=', '--checkpoint', 'DIR/corrupted'], /corrupted: no checkpoint is intact/],
    // The state of the run folder, in the words of the command line.
    [
      ['train', 'DIR/tiny.json', '--run', 'DIR/run', '--resume', 'never'],
      /already contains a run; use another folder \(--run\), or --resume auto$/,
    ],
    [
      ['train', 'DIR/tiny.json', '--run', 'DIR/run'],
      /begun with other settings or data; use another folder \(--run\), or --allow-drift\n/,
    ],
  ]);
});
