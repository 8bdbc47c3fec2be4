// Model folders for tests: a tiny Llama with generated weights and a tokenizer of words.

import fs from 'node:fs';
import { join } from 'node:path';
import { parametersOf } from '../../src/model/architecture.js';
import { readArchitecture, tensorNames } from '../../src/model/families.js';
import type { Task } from '../../src/tasks/index.js';
import type { FloatType } from '../../src/weights/floats.js';
import { type Arrays, writeArrays } from '../../src/weights/safetensors-writer.js';

export const tinyConfig = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 16,
  max_position_embeddings: 64,
  eos_token_id: 2,
};

export type MutableArrays = { -readonly [K in keyof Arrays]: Arrays[K] };

/** Every tensor that a configuration needs, with different values between −0.5 and 0.5. */
export function tensorsOf(config: object): MutableArrays {
  const architecture = readArchitecture(config);
  const { tensors } = tensorNames(architecture);
  return Object.fromEntries(
    parametersOf(architecture).map(({ name, shape }, index) => {
      const count = shape.reduce((a, b) => a * b, 1);
      // Norms near 1.
      const values = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        const value = Math.sin(7 * index + 1.7 * i) / 2;
        values[i] = shape.length === 1 ? 1 + value / 4 : value;
      }
      return [tensors.get(name)!, { shape, values }];
    }),
  );
}

/** Ids: 0 `<pad>`, 1 `<s>`, 2 `</s>`, then words. `<s>` begins every text. */
export const words = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

/** Prompts of two words; completions that begin with c are right. The lengths of its texts are not stated. */
export const wordTask: Task = {
  name: 'words',
  size: 9,
  example: (i) => ({
    prompt: `${words[i % 3]} ${words[Math.floor(i / 3)]}`,
    answer: 'c',
    solution: 'c',
    difficulty: 0,
  }),
  score: (text) => (text.startsWith('c') ? 1 : 0),
};

export function tinyTokenizer(change: { vocab?: Record<string, number>; added?: object[] } = {}): object {
  const special = ['<pad>', '<s>', '</s>'].map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  }));
  const vocab = Object.fromEntries([...special.map(({ content }) => content), ...words].map((word, id) => [word, id]));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...special, ...(change.added ?? [])],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: { type: 'ByteLevel' },
    model: { type: 'WordLevel', vocab: { ...vocab, ...change.vocab }, unk_token: 'a' },
  };
}

export interface ModelFolderParts {
  config?: object;
  tensors?: Arrays;
  type?: FloatType;
  /** null: no tokenizer.json. */
  tokenizer?: object | null;
  tokenizerConfig?: object;
}

export function writeModelFolder(folder: string, parts: ModelFolderParts = {}): string {
  const { config = tinyConfig, tokenizer = tinyTokenizer(), type = 'F32' } = parts;
  const { tensors = tensorsOf(config), tokenizerConfig = { eos_token: '</s>', pad_token: '<pad>' } } = parts;
  fs.mkdirSync(folder, { recursive: true });
  const json = (name: string, value: object) => fs.writeFileSync(join(folder, name), JSON.stringify(value));
  json('config.json', config);
  if (tokenizer) json('tokenizer.json', tokenizer);
  if (tokenizer) json('tokenizer_config.json', tokenizerConfig);
  writeArrays(join(folder, 'model.safetensors'), tensors, type, { metadata: { format: 'pt' } });
  return folder;
}
