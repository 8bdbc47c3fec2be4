// A contender of model.ts: generation by llama.cpp through node-llama-cpp, which is installed in a folder of its own. Reads one request per
// line, responds with seconds, or NaN for what it cannot do, or with bytes to `peak`. `model-llama.ts <folder of node_modules> <file.gguf> <threads>`

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

/** What is used of node-llama-cpp 3. */
interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }>;
}
interface Model {
  createContext(options: object): Promise<Context>;
}
interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}
interface Sequence {
  controlledEvaluate(input: (number | [token: number, options: object])[]): Promise<{ next?: { token: number } }[]>;
  clearHistory(): Promise<void>;
}

const [folder, file, threads] = process.argv.slice(2);
const place = join(folder, 'node_modules', 'node-llama-cpp');
const { version } = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')) as { version: string };
const { getLlama } = (await import(pathToFileURL(join(place, 'dist', 'index.js')).href)) as LlamaModule;
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: Number(threads), logLevel: 'error' });
const model = await llama.loadModel({ modelPath: file });
console.log(`node-llama-cpp ${version}`);

/** Prompts of `prompt` tokens in `rows` sequences, decoded together, each continued greedily by `tokens` more. */
async function generation(rows: number, prompt: number, tokens: number): Promise<() => Promise<void>> {
  const context = await model.createContext({
    sequences: rows,
    contextSize: prompt + tokens,
    batchSize: rows * prompt,
    threads: Number(threads),
  });
  const sequences = Array.from({ length: rows }, () => context.getSequence());
  const ids = (row: number) => Array.from({ length: prompt }, (_, t) => 10 + ((131 * (row * prompt + t)) % 49_000));
  const next = { generateNext: { token: true, options: { temperature: 0 } } };
  return async () => {
    for (const sequence of sequences) await sequence.clearHistory();
    let inputs = sequences.map((_, row) => ids(row));
    // All sequences take a step together: each of them alone would decode with those that happen to be ready.
    for (let i = 0; i < tokens; i++) {
      const outputs = await Promise.all(
        sequences.map((sequence, row) => {
          const own = inputs[row];
          return sequence.controlledEvaluate([...own.slice(0, -1), [own.at(-1)!, next]]);
        }),
      );
      inputs = outputs.map((output) => [output.at(-1)!.next!.token]);
    }
  };
}

const ready = new Map<string, () => Promise<void>>();
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'peak') {
    console.log(1024 * process.resourceUsage().maxRSS);
    continue;
  }
  const [kind, ...numbers] = line.split(' ');
  if (kind !== 'generate') {
    console.log(Number.NaN);
    continue;
  }
  const [rows, prompt, tokens] = numbers.map(Number);
  const work = ready.get(line) ?? (await generation(rows, prompt, tokens));
  ready.set(line, work);
  const begin = performance.now();
  await work();
  console.log((performance.now() - begin) / 1e3);
}
process.exit();
