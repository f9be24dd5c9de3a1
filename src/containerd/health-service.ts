/** gRPC's health service, `grpc.health.v1`. */
import { once } from 'node:events';
import { create } from '@bufbuild/protobuf';
import { VeneerError } from '../errors.ts';
import {
  type HealthCheckRequest,
  HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
} from './gen/health_pb.ts';

/** `services`: names that may be asked for besides ''. `stopping` fires when the daemon wants no more calls. */
export function healthService(services: readonly string[], stopping: AbortSignal) {
  const statusOf = (service: string) => {
    if (service !== '' && !services.includes(service)) return Status.SERVICE_UNKNOWN;
    return stopping.aborted ? Status.NOT_SERVING : Status.SERVING;
  };
  const answer = (service: string) => create(HealthCheckResponseSchema, { status: statusOf(service) });
  return {
    async Check({ service }: HealthCheckRequest) {
      if (statusOf(service) === Status.SERVICE_UNKNOWN)
        throw new VeneerError('serve/no-service', `Cannot check ${service}: there is no such service`);
      return answer(service);
    },
    async *Watch({ service }: HealthCheckRequest, { signal }: { readonly signal: AbortSignal }) {
      yield answer(service);
      if (stopping.aborted) return;
      const end = AbortSignal.any([signal, stopping]);
      if (!end.aborted) await once(end, 'abort');
      if (stopping.aborted) yield answer(service);
    },
  };
}
