// A tiny model with an adapter, trained on completions of test servers on real ports.

import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  defineReward,
  type GrpoTrainer,
  PretrainedPolicy,
  type RolloutEngine,
  type TrainerOptions,
  type VllmOptions,
  vllm,
} from '../../src/index.js';
import { createTrainer } from '../../src/train/grpo.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { type FakeServer, type Faults, fakeServer } from './fake-server.js';
import { tinyConfig, wordTask, writeModelFolder } from './model-folder.js';
import { temporaryFolder } from './trainer.js';

/** Differs within every group from the first step on. */
export const often = defineReward('c', ({ completion }) => completion.text.split('c').length - 1);
export const lora = { rank: 2, alpha: 8 };

/** Fast where a server fails. */
export const patience = { backOff: 5, retries: 4 };

/** Of the model in a scene's folder. */
export const sceneConfig = { ...tinyConfig, num_hidden_layers: 1 };

export interface Scene {
  parent: string;
  model: string;
  servers: FakeServer[];
  adapters: string;
}

export async function scene(t: TestContext, ...faults: Faults[]): Promise<Scene> {
  const parent = temporaryFolder(t);
  const model = writeModelFolder(join(parent, 'model'), { config: sceneConfig });
  const servers: FakeServer[] = [];
  for (const some of faults.length > 0 ? faults : [{}]) servers.push(await fakeServer(t, model, some));
  return { parent, model, servers, adapters: join(parent, 'adapters') };
}

export function vllmOf({ servers, adapters }: Scene, change: Partial<VllmOptions> = {}): RolloutEngine {
  const urls = servers.map(({ url }) => url);
  return vllm({ urls, model: 'tiny', adapterFolder: adapters, ...patience, ...change });
}

export async function open(
  t: TestContext,
  model: string,
  change: Partial<TrainerOptions>,
  options: Parameters<typeof PretrainedPolicy.load>[1] = { lora },
): Promise<GrpoTrainer> {
  const policy = (await PretrainedPolicy.load(model, options)) as LoadedPolicy;
  const trainer = await createTrainer({
    policy,
    train: wordTask,
    rewards: [often],
    promptsPerStep: 4,
    groupSize: 4,
    sampling: { maxTokens: 4, promptLength: 4 },
    hadw: {},
    optimizer: { learningRate: 5e-2 },
    seed: 5,
    ...change,
  });
  t.after(() => {
    trainer.dispose();
    policy.dispose();
  });
  return trainer;
}
