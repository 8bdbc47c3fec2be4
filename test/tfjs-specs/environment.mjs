// The backend of tfjs's specs: the CPU backend, or ours. The specs' first import, so that it is known before they are
// declared. In the bundle, tfjs-core's package is replaced by its modules, as the specs import them.

import '@tensorflow/tfjs-core/dist/register_all_gradients';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-backend-cpu';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { registerEngineBackend } from '../../src/backend/engine/register.ts';

const backend = process.env.GROUPGRAD_SPECS_BACKEND;
if (backend !== 'cpu') registerEngineBackend();
setTestEnvs([{ name: backend, backendName: backend, isDataSync: true }]);
