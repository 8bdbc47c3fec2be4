// Model folders and adapters: read if configuration and weights agree, rejected by name if not.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { modulesOf } from '../../src/model/architecture.js';
import { modulePath, readArchitecture } from '../../src/model/families.js';
import { AdapterFolder, writeAdapter } from '../../src/weights/adapter.js';
import { checkEveryTarget, selectTargets } from '../../src/weights/adapter-targets.js';
import type { FloatType } from '../../src/weights/floats.js';
import { ModelFiles, ModelFilesWriter } from '../../src/weights/model-files.js';
import { copyCompanions, PretrainedFolder } from '../../src/weights/pretrained-folder.js';
import { SafetensorsFile } from '../../src/weights/safetensors-file.js';
import { type Arrays, writeArrays } from '../../src/weights/safetensors-writer.js';
import { tinyConfig as config, type MutableArrays, tensorsOf } from '../support/model-folder.js';
import { temporaryFolder } from '../support/trainer.js';

function writeFolder(folder: string, given: object, tensors: Arrays, type: FloatType = 'F32'): string {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(join(folder, 'config.json'), JSON.stringify(given));
  writeArrays(join(folder, 'model.safetensors'), tensors, type, { metadata: { format: 'pt' } });
  return folder;
}

test('a folder provides its parameters by our names, in the order of the model', (t) => {
  const tensors = tensorsOf(config);
  const path = writeFolder(
    temporaryFolder(t),
    config,
    { ...tensors, 'model.layers.0.self_attn.rotary_emb.inv_freq': tensors['model.norm.weight'] },
    'BF16',
  );
  using folder = new PretrainedFolder(path);
  assert.equal(folder.parameters.length, 3 + 2 * 9);
  assert.deepEqual(
    folder.parameters.slice(0, 3).map(({ name, tensor, shape, type }) => [name, tensor, shape, type]),
    [
      ['embedding', 'model.embed_tokens.weight', [16, 8], 'BF16'],
      ['layers.0.attention.norm', 'model.layers.0.input_layernorm.weight', [8], 'BF16'],
      ['layers.0.attention.query', 'model.layers.0.self_attn.q_proj.weight', [8, 8], 'BF16'],
    ],
  );
  assert.equal(folder.config.model_type, 'llama');
});

test('tied embeddings are read from either tensor, and are not tied if the files contain two', (t) => {
  const parent = temporaryFolder(t);
  const tied = { ...config, tie_word_embeddings: true };
  const tensors = tensorsOf(config);
  const { 'lm_head.weight': head, 'model.embed_tokens.weight': embedding, ...others } = tensors;
  const read = (name: string, given: Arrays) => {
    using folder = new PretrainedFolder(writeFolder(join(parent, name), tied, given));
    return { isTied: folder.architecture.tiedEmbeddings, tensor: folder.parameters[0].tensor };
  };
  assert.deepEqual(read('one', { ...others, 'model.embed_tokens.weight': embedding }), {
    isTied: true,
    tensor: 'model.embed_tokens.weight',
  });
  assert.deepEqual(read('other', { ...others, 'lm_head.weight': head }), { isTied: true, tensor: 'lm_head.weight' });
  const same = { ...others, 'model.embed_tokens.weight': embedding, 'lm_head.weight': embedding };
  assert.deepEqual(read('same', same), { isTied: true, tensor: 'model.embed_tokens.weight' });
  assert.deepEqual(read('different', tensors), { isTied: false, tensor: 'model.embed_tokens.weight' });
});

test('weights that do not match the configuration are rejected by name', (t) => {
  const parent = temporaryFolder(t);
  const tensors = tensorsOf(config);
  const query = 'model.layers.1.self_attn.q_proj.weight';
  const { [query]: _, ...missing } = tensors;
  const { 'lm_head.weight': head, ...headless } = tensors;
  const cases: [name: string, given: object, tensors: Arrays, expected: RegExp][] = [
    ['missing', config, missing, /expected a tensor "model.layers.1.self_attn.q_proj.weight", got none of that name/],
    ['no head', config, headless, /expected a tensor "lm_head.weight", got none/],
    ['unexpected', config, { ...tensors, 'score.weight': head }, /tensor "score.weight": expected a tensor of llama/],
    ['bias', config, { ...tensors, 'lm_head.bias': { shape: [16], values: new Float32Array(16) } }, /"lm_head.bias"/],
    [
      'transposed',
      config,
      {
        ...tensors,
        'model.layers.0.mlp.up_proj.weight': { ...tensors['model.layers.0.mlp.up_proj.weight'], shape: [8, 12] },
      },
      /"model.layers.0.mlp.up_proj.weight", shape: expected \[12, 8\] as the configuration says, got \[8, 12\]/,
    ],
    ['other size', { ...config, vocab_size: 17 }, tensors, /shape: expected \[17, 8\] .*, got \[16, 8\]/],
    [
      'other family',
      { ...config, model_type: 'qwen3', architectures: null, head_dim: 4 },
      tensors,
      /q_norm.weight", got none/,
    ],
    [
      'fewer layers',
      { ...config, num_hidden_layers: 1 },
      tensors,
      /"model.layers.1.input_layernorm.weight": expected a tensor/,
    ],
    ['unknown family', { ...config, model_type: 'mamba' }, tensors, /model_type: expected one of/],
  ];
  for (const [name, given, own, expected] of cases) {
    const path = writeFolder(join(parent, name), given, own);
    assert.throws(() => new PretrainedFolder(path), expected, name);
  }
  const path = writeFolder(join(parent, 'types'), config, tensors);
  const file = join(path, 'model.safetensors');
  fs.writeFileSync(file, Buffer.from(fs.readFileSync(file).toString('latin1').replace('"F32"', '"I32"'), 'latin1'));
  assert.throws(
    () => new PretrainedFolder(path),
    /"model.embed_tokens.weight", type: expected one of F32, BF16, F16, got I32/,
  );
  fs.truncateSync(file, 2000);
  assert.throws(() => new PretrainedFolder(path), /model.safetensors.*truncated/);
  fs.writeFileSync(join(path, 'config.json'), '{"model_type":"llama","model_type":"qwen2"}');
  assert.throws(
    () => new PretrainedFolder(path),
    /config.json: expected JSON, got position \d+: the key "model_type" occurs/,
  );
  fs.writeFileSync(join(path, 'config.json'), '[]');
  assert.throws(() => new PretrainedFolder(path), /config.json: expected an object, got an array/);
  fs.rmSync(join(path, 'config.json'));
  assert.throws(() => new PretrainedFolder(path), /expected a model folder with config.json, got none/);
});

test('a model that is read and written is unchanged, bit for bit', (t) => {
  const parent = temporaryFolder(t);
  for (const type of ['F32', 'BF16', 'F16'] as const) {
    const from = writeFolder(join(parent, type), config, tensorsOf(config), type);
    const to = join(parent, `${type}-copy`);
    using folder = new PretrainedFolder(from);
    const entries = folder.parameters.map(({ tensor, type: own, shape }) => ({ name: tensor, type: own, shape }));
    const writer = new ModelFilesWriter(to, entries, 500);
    for (const { name } of writer.tensors) {
      for (const { values } of folder.files.floatPieces(name, 7)) writer.write(name, values);
    }
    writer.finish();
    copyCompanions(from, to);
    using copy = new PretrainedFolder(to);
    for (const { tensor } of folder.parameters) {
      const bytes = (files: ModelFiles) => Buffer.concat([...files.bytePieces(tensor)]);
      assert.deepEqual(bytes(copy.files), bytes(folder.files));
    }
    assert.deepEqual(fs.readFileSync(join(to, 'config.json')), fs.readFileSync(join(from, 'config.json')));
    assert.ok(fs.readdirSync(to).length > 4);
  }
});

interface PeftCase {
  family: string;
  rules: Record<string, unknown>;
  selected: [path: string, rank: number, scale: number][] | null;
}

const peft: { configs: Record<string, object>; cases: PeftCase[] } = JSON.parse(
  fs.readFileSync(join(import.meta.dirname, '../golden/peft-targets.json'), 'utf8'),
);

/** An adapter folder with the tensors that its modules need. */
function writeRawAdapter(folder: string, given: object, tensors: Arrays): string {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(given));
  writeArrays(join(folder, 'adapter_model.safetensors'), tensors, 'F32');
  return folder;
}

function loraTensors(paths: readonly [path: string, rank: number, outputs: number, inputs: number][]): MutableArrays {
  return Object.fromEntries(
    paths.flatMap(([path, rank, outputs, inputs]) =>
      (['A', 'B'] as const).map((matrix) => {
        const shape = matrix === 'A' ? [rank, inputs] : [outputs, rank];
        const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => i + (matrix === 'A' ? 0.5 : 0.25));
        return [`base_model.model.${path}.lora_${matrix}.weight`, { shape, values }];
      }),
    ),
  );
}

test('modules, ranks and scales are those of PEFT', (t) => {
  const parent = temporaryFolder(t);
  for (const [i, { family, rules, selected }] of peft.cases.entries()) {
    const architecture = readArchitecture(peft.configs[family]);
    const about = JSON.stringify(rules);
    const shapes = new Map(
      modulesOf(architecture).map((module) => [modulePath(architecture, module.name), module.shape] as const),
    );
    const tensors = loraTensors(
      (selected ?? []).map(([path, rank]) => [path, rank, shapes.get(path)![0], shapes.get(path)![1]]),
    );
    const given = { peft_type: 'LORA', r: 4, lora_alpha: 6, ...rules };
    const folder = writeRawAdapter(join(parent, String(i)), given, tensors);
    if (!selected) {
      assert.throws(() => new AdapterFolder(folder, architecture), RangeError, about);
      continue;
    }
    using adapter = new AdapterFolder(folder, architecture);
    const got = adapter.modules.map(({ path, rank, scale }) => [path, rank, scale] as const);
    assert.deepEqual(
      got.map(([path, rank]) => `${path} ${rank}`).sort(),
      selected.map(([path, rank]) => `${path} ${rank}`).sort(),
      about,
    );
    for (const [path, , scale] of got) {
      assert.ok(Math.abs(scale - selected.find(([own]) => own === path)![2]) < 1e-12, about);
    }
  }
});

const architecture = readArchitecture(config);
const plain = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: 2, lora_alpha: 4, target_modules: ['q_proj'] };
const queries = ['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj'];
const queryTensors = () => loraTensors(queries.map((path) => [path, 2, 8, 8]));

test('an adapter that is not plain LoRA is rejected by name', (t) => {
  const parent = temporaryFolder(t);
  const cases: [given: object, expected: RegExp][] = [
    [{ peft_type: 'IA3' }, /peft_type: expected 'LORA', got "IA3"/],
    [{ task_type: 'SEQ_CLS' }, /task_type: expected 'CAUSAL_LM', got "SEQ_CLS"/],
    [{ use_dora: true }, /use_dora: expected a plain LoRA adapter without it, got true/],
    [{ modules_to_save: ['lm_head'] }, /modules_to_save: expected a plain LoRA adapter/],
    [{ bias: 'all' }, /bias: expected 'none', got "all"/],
    [{ lora_bias: true }, /lora_bias: expected a plain LoRA/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out: expected a plain LoRA/],
    [{ layer_replication: [[0, 1]] }, /layer_replication: expected a plain LoRA/],
    [{ trainable_token_indices: [3] }, /trainable_token_indices: expected/],
    [{ alora_invocation_tokens: [1] }, /alora_invocation_tokens: expected/],
    [{ some_new_method: { a: 1 } }, /some_new_method: expected a plain LoRA/],
    [
      { init_lora_weights: 'pissa' },
      /init_lora_weights: expected one that leaves the base model as it is, got "pissa"/,
    ],
    [{ r: 0 }, /adapter_config.json, r: expected an integer at least 1, got 0/],
    [{ r: undefined }, /adapter_config.json, r: expected an integer at least 1, got nothing/],
    [{ lora_alpha: '4' }, /lora_alpha: expected a finite number above 0, got "4"/],
    [{ target_modules: undefined }, /target_modules: expected a string or an array of strings, got nothing/],
    [{ target_modules: [1] }, /target_modules: expected a string or an array of strings/],
    [
      { target_modules: '(a+)+$|(([a-z._0-9]+)+)+X' },
      /target_modules: expected a regular expression that ends within 1000 ms/,
    ],
    [{ target_modules: '[' }, /target_modules: expected a regular expression/],
    [{ rank_pattern: { q_proj: 1.5 } }, /rank_pattern: expected an integer at least 1, got 1.5/],
    [{ rank_pattern: [2] }, /rank_pattern: expected an object/],
    [{ alpha_pattern: { q_proj: 'x' } }, /alpha_pattern, "q_proj": expected a finite number/],
    [{ alpha_pattern: { '(': 1 } }, /alpha_pattern, "\(": expected a regular expression/],
    [{ layers_to_transform: ['1'] }, /layers_to_transform: expected an integer/],
  ];
  for (const [i, [given, expected]] of cases.entries()) {
    const folder = writeRawAdapter(join(parent, String(i)), { ...plain, ...given }, queryTensors());
    assert.throws(() => new AdapterFolder(folder, architecture), expected);
  }
});

test('an adapter of another model is rejected by name', (t) => {
  const parent = temporaryFolder(t);
  const [first, second] = Object.entries(queryTensors());
  const wide = loraTensors(queries.map((path) => [path, 2, 16, 8]));
  const cases: [tensors: Arrays, expected: RegExp][] = [
    [
      Object.fromEntries([first, second]),
      /expected a tensor "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"/,
    ],
    [
      { ...queryTensors(), ...loraTensors([['model.layers.2.self_attn.q_proj', 2, 8, 8]]) },
      /layers.2.*another model\?/,
    ],
    [{ ...queryTensors(), ...loraTensors([['model.layers.0.mlp.up_proj', 2, 12, 8]]) }, /up_proj.*another model\?/],
    [wide, /lora_B.weight", shape: expected \[8, 2\], got \[16, 2\] \(is it for another model\?\)/],
    [loraTensors(queries.map((path) => [path, 3, 8, 8])), /lora_A.weight", shape: expected \[2, 8\], got \[3, 8\]/],
  ];
  for (const [i, [tensors, expected]] of cases.entries()) {
    const folder = writeRawAdapter(join(parent, String(i)), plain, tensors);
    assert.throws(() => new AdapterFolder(folder, architecture), expected);
  }
  assert.throws(
    () => new AdapterFolder(parent, architecture),
    /expected an adapter folder with adapter_config.json, got none/,
  );
  fs.rmSync(join(parent, '0', 'adapter_model.safetensors'));
  assert.throws(
    () => new AdapterFolder(join(parent, '0'), architecture),
    /expected adapter_model.safetensors, got no such file/,
  );
});

test('an adapter is written as every engine reads it, and can be read back', (t) => {
  const parent = temporaryFolder(t);
  const rules = { ...plain, use_rslora: true };
  using read = new AdapterFolder(writeRawAdapter(join(parent, 'from'), rules, queryTensors()), architecture);
  const entries = read.modules.map((module) => ({
    ...module,
    a: () => read.readA(module.module.name),
    b: () => read.readB(module.module.name),
  }));
  writeAdapter(join(parent, 'to'), architecture, entries, { baseModel: 'base' });
  const written = JSON.parse(fs.readFileSync(join(parent, 'to', 'adapter_config.json'), 'utf8'));
  assert.deepEqual(written.target_modules, ['q_proj']);
  assert.deepEqual([written.use_rslora, written.r, written.base_model_name_or_path], [false, 2, 'base']);
  assert.ok(Math.abs(written.lora_alpha / 2 - 4 / Math.sqrt(2)) < 1e-12);
  using file = new SafetensorsFile(join(parent, 'to', 'adapter_model.safetensors'));
  assert.equal(file.metadata.get('format'), 'pt');
  using back = new AdapterFolder(join(parent, 'to'), architecture);
  for (const { module } of read.modules) {
    assert.deepEqual(back.readA(module.name), read.readA(module.name));
    assert.deepEqual(back.readB(module.name), read.readB(module.name));
  }
  assert.throws(() => back.readA('layers.0.attention.key'), /module: expected a module that/);
  assert.throws(
    () => writeAdapter(join(parent, 'none'), architecture, []),
    /entries: expected at least one adapted module/,
  );
});

/** scale × B A, [outputs, inputs]. */
function product(adapter: AdapterFolder, name: string): number[] {
  const { rank, scale, module } = adapter.modules.find((one) => one.module.name === name)!;
  const [outputs, inputs] = module.shape;
  const [a, b] = [adapter.readA(name), adapter.readB(name)];
  return Array.from({ length: outputs * inputs }, (_, at) => {
    const [row, column] = [Math.floor(at / inputs), at % inputs];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[row * rank + r] * a[r * inputs + column];
    return scale * sum;
  });
}

test('different ranks and scales are converted to one, with the same products', (t) => {
  const parent = temporaryFolder(t);
  const mixed = {
    ...plain,
    rank_pattern: { 'layers.1.self_attn.q_proj': 3 },
    alpha_pattern: { 'layers.0.self_attn.q_proj': 1 },
  };
  const tensors = { ...loraTensors([[queries[0], 2, 8, 8]]), ...loraTensors([[queries[1], 3, 8, 8]]) };
  using read = new AdapterFolder(writeRawAdapter(join(parent, 'from'), mixed, tensors), architecture);
  const entries = read.modules.map((module) => ({
    ...module,
    a: () => read.readA(module.module.name),
    b: () => read.readB(module.module.name),
  }));
  writeAdapter(join(parent, 'to'), architecture, entries);
  using back = new AdapterFolder(join(parent, 'to'), architecture);
  assert.deepEqual(
    back.modules.map(({ rank, scale }) => [rank, scale]),
    [
      [3, 0.5],
      [3, 0.5],
    ],
  );
  for (const { module } of read.modules) {
    const [expected, got] = [product(read, module.name), product(back, module.name)];
    for (const [i, value] of expected.entries()) assert.ok(Math.abs(value - got[i]) < 1e-5 * Math.abs(value) + 1e-6);
  }
});

test('modules that no suffix of a name selects exactly are written by their paths', (t) => {
  const folder = temporaryFolder(t);
  const [first] = selectTargets(architecture, { targets: [queries[0]] });
  const entry = { ...first, rank: 1, scale: 1, a: () => new Float32Array(8), b: () => new Float32Array(8) };
  writeAdapter(folder, architecture, [entry]);
  const written = JSON.parse(fs.readFileSync(join(folder, 'adapter_config.json'), 'utf8'));
  assert.deepEqual(written.target_modules, [queries[0]]);
});

test('a misspelt target is named', () => {
  checkEveryTarget(architecture, ['q_proj', 'model.layers.0.mlp.up_proj', 'lm_head'], 'lora.targets');
  assert.throws(
    () => checkEveryTarget(architecture, ['q_proj', 'query'], 'lora.targets'),
    /lora.targets: expected linear modules of llama \(q_proj, k_proj, .*, lm_head\), got "query"/,
  );
});

const shared = join(import.meta.dirname, '../../../shared/golden/hf');

test('the folders of the golden vectors are read', {
  skip: fs.existsSync(shared) ? false : `${shared} is missing`,
}, () => {
  const names = fs.readdirSync(shared).filter((name) => fs.existsSync(join(shared, name, 'config.json')));
  assert.ok(names.length >= 10);
  for (const name of names) {
    using folder = new PretrainedFolder(join(shared, name));
    using adapter = new AdapterFolder(join(shared, `${name}-adapter`), folder.architecture);
    for (const { tensor } of folder.parameters)
      assert.ok(folder.files.readFloats(tensor).every(Number.isFinite), tensor);
    for (const { module } of adapter.modules) assert.ok(adapter.readB(module.name).every(Number.isFinite));
    using files = new ModelFiles(join(shared, name));
    assert.equal([...files.tensors()].length, folder.parameters.length);
  }
});
