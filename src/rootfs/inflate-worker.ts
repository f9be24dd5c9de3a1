/** The thread that inflates layers: each message is a job, the answer is the size of the tar or why there is none. */
import { serveThread } from '../threads/serve-thread.ts';
import { inflateLayer } from './inflate-layer.ts';

serveThread(inflateLayer);
