// Completions per second of one and of two rollout servers, each in its own process, which takes half a second more per
// completion without using the processor, as a server with a GPU would: test/support/rollout_server.py with the fault `slow`. One and
// two take turns. Last, the second of two is killed in the middle.
//
// usage: tsx bench/rollout-servers.ts [rounds]     default 5; GROUPGRAD_PYTHON names a Python with torch, transformers and peft
//
// Writes bench/results/rollout-servers.json.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startBackend } from '../src/backend/backend.js';
import { PretrainedPolicy, vllm } from '../src/index.js';
import type { Policy } from '../src/model/policy.js';
import { encodeOne } from '../src/text/tokenizer.js';
import { weightsOf } from '../src/train/engine-weights.js';
import { lora, stories } from '../test/support/beginnings.js';
import { type PythonServer, startPythonServer } from '../test/support/python-server.js';
import { machine } from './machine.js';

const rounds = Number(process.argv[2] ?? 5);
const root = fileURLToPath(new URL('..', import.meta.url));
const [groups, groupSize, maxTokens] = [8, 4, 2];

await startBackend('wasm');
const policy = (await PretrainedPolicy.load(stories, { lora })) as unknown as Policy;
const adapters = mkdtempSync(join(tmpdir(), 'groupgrad-servers-'));
const servers = await Promise.all([startPythonServer(stories), startPythonServer(stories)]);
const probes = [await encodeOne(policy.tokenizer, 'One day, Tim')];
const requests = Array.from({ length: groups * groupSize }, (_, i) => ({
  prompt: Int32Array.from([...probes[0], 100 + Math.floor(i / groupSize)]),
  promptIndex: Math.floor(i / groupSize),
  sample: i % groupSize,
}));

/** Completions per second, with a new version of the adapter that is loaded and checked outside the time. */
async function measure(using: readonly PythonServer[], kill?: PythonServer): Promise<number> {
  const engine = vllm({
    urls: using.map(({ url }) => url),
    model: 'stories260k',
    adapterFolder: adapters,
    backOff: 100,
  });
  await engine.update!(weightsOf(policy, { run: 'bench', temperature: 1, probes }), {});
  // Loads and checks the adapter on every server.
  await engine.complete(requests.slice(0, groupSize * using.length), { maxTokens, temperature: 1, seed: 1, step: 0 });
  for (const server of using) await server.setFault('slow');
  const began = performance.now();
  let done = 0;
  const onCompletion = () => {
    if (kill && ++done === requests.length / 4) kill.kill();
  };
  const completions = await engine.complete(requests, { maxTokens, temperature: 1, seed: 1, step: 1, onCompletion });
  const seconds = (performance.now() - began) / 1e3;
  if (completions.filter(({ tokens }) => tokens.length > 0).length !== requests.length)
    throw new Error('some are lost');
  for (const server of using) if (server !== kill) await server.setFault(null);
  await engine.release!();
  return requests.length / seconds;
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const rates: { one: number[]; two: number[] } = { one: [], two: [] };
try {
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? ([1, 2] as const) : ([2, 1] as const);
    for (const count of order) rates[count === 1 ? 'one' : 'two'].push(await measure(servers.slice(0, count)));
    console.log(`one ${rates.one[round].toFixed(2)}, two ${rates.two[round].toFixed(2)} completions per second`);
  }
  const oneOfTwoKilled = await measure(servers, servers[1]);
  const ratios = rates.two.map((rate, i) => rate / rates.one[i]);
  const round = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value);
  const result = {
    machine: machine(),
    completions: requests.length,
    secondsSlept: 0.5,
    completionsPerSecond: { ...rates, oneOfTwoKilled },
    ratios,
    medianRatio: median(ratios),
  };
  writeFileSync(join(root, 'bench/results/rollout-servers.json'), `${JSON.stringify(result, round, 1)}\n`);
  console.log(
    `two servers do ${median(ratios).toFixed(3)} times the work of one (${ratios.map((r) => r.toFixed(3)).join(', ')})`,
  );
  console.log(`one of two killed after a quarter: ${oneOfTwoKilled.toFixed(2)} completions per second, none lost`);
} finally {
  await Promise.all(servers.map((server) => server.end()));
  rmSync(adapters, { recursive: true, force: true });
  policy.dispose();
}
