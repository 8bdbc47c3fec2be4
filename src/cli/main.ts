#!/usr/bin/env node
// The command line: `groupgrad <command> …`. Exit codes: 0 for success, 1 after a failure, 2 for incorrect usage, 129, 130 or 143
// when a signal ended a run.

import { withTfjs } from '../base/missing-tfjs.js';
import { packageVersion } from '../base/version.js';
import { UsageError } from './arguments.js';

interface Command {
  run: (args: readonly string[]) => Promise<void>;
  help: string;
}

/** Loaded on demand: only some of them need TensorFlow.js. */
const commands: Readonly<Record<string, { summary: string; load: () => Promise<Command> }>> = {
  train: {
    summary: 'train a policy',
    load: () => import('./train.js').then(({ train: run, help }) => ({ run, help })),
  },
  evaluate: {
    summary: 'measure how often a model or a trained policy is right',
    load: () => import('./evaluate.js').then(({ evaluate: run, help }) => ({ run, help })),
  },
  sample: {
    summary: 'complete a prompt with a trained policy',
    load: () => import('./sample.js').then(({ sample: run, help }) => ({ run, help })),
  },
  data: {
    summary: 'show what a data file contains and what a model would see of it',
    load: () => import('./data.js').then(({ data: run, help }) => ({ run, help })),
  },
  generate: {
    summary: 'complete a prompt with a model from a Hugging Face folder',
    load: () => import('./generate.js').then(({ generate: run, help }) => ({ run, help })),
  },
  export: {
    summary: 'write a trained model or adapter for transformers, PEFT, vLLM or llama.cpp',
    load: () => import('./export.js').then(({ exportRun: run, help }) => ({ run, help })),
  },
  verify: {
    summary: 'grade the completions in a file, to try a grader before a run',
    load: () => import('./verify.js').then(({ verify: run, help }) => ({ run, help })),
  },
  compare: {
    summary: 'train several configurations over several seeds and compare them in pairs',
    load: () => import('./compare.js').then(({ compare: run, help }) => ({ run, help })),
  },
  settings: {
    summary: 'list the settings of a run, with their types, defaults and meaning',
    load: () => import('./settings.js').then(({ settings: run, help }) => ({ run, help })),
  },
  report: {
    summary: 'write report.html for a run or a comparison',
    load: () => import('./report.js').then(({ report: run, help }) => ({ run, help })),
  },
  watch: {
    summary: 'the report of a run in a browser, while it trains',
    load: () => import('./watch.js').then(({ watch: run, help }) => ({ run, help })),
  },
  bias: {
    summary: 'show the bias of group-relative advantages, in theory and simulated',
    load: () => import('./bias.js').then(({ bias: run, help }) => ({ run, help })),
  },
  build: {
    summary: 'compile the native addon on this machine',
    load: () => import('./build.js').then(({ build: run, help }) => ({ run, help })),
  },
  doctor: {
    summary: 'report what works on this machine, what does not and why, and how to fix it',
    load: () => import('./doctor.js').then(({ doctor: run, help }) => ({ run, help })),
  },
};

function usage(): string {
  const list = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`);
  return `groupgrad <command>\n\n${list.join('\n')}\n\ngroupgrad <command> --help for details; --version for the version\n`;
}

async function main([name, ...args]: readonly string[]): Promise<void> {
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(usage());
    if (name === undefined) process.exitCode = 2;
    return;
  }
  if (name === '--version') {
    console.log(packageVersion());
    return;
  }
  if (!Object.hasOwn(commands, name))
    throw new UsageError(`expected a command, got ${JSON.stringify(name)}\n\n${usage()}`);
  const needer = `groupgrad ${name}`;
  const { run, help } = await withTfjs(needer, commands[name].load);
  if (args.includes('--help') || args.includes('-h')) process.stdout.write(help);
  else await withTfjs(needer, () => run(args));
}

// A closed pipe, as with `head`, must not end a run.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`groupgrad: ${(error as Error).message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
// Exit explicitly: a reward that timed out may still have a connection open.
process.stdout.write('', () => process.exit());
