/** The part of Kubernetes' PodSpec that inject reads; the rest stays unchanged. */
export interface PodSpec {
  containers?: Container[];
  initContainers?: Container[];
  volumes?: Volume[];
  hostNetwork?: boolean;
  securityContext?: { fsGroup?: unknown } | null;
}

export interface Container {
  name: string;
  image?: string;
  args?: unknown[];
  env?: { name: string }[];
  volumeMounts?: VolumeMount[];
}

export interface VolumeMount {
  name: string;
  mountPath: string;
  readOnly?: boolean;
  subPath?: string;
  subPathExpr?: string;
}

export interface Volume {
  name: string;
  configMap?: object | null;
  emptyDir?: object | null;
  hostPath?: object | null;
}
