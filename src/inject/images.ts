/** Images whose access log is not in /var/log/nginx, according to their documentation. */
const LOG_PATHS: readonly (readonly [RegExp, string])[] = [
  [/(^|\/)bitnami[a-z]*\/nginx$/, '/opt/bitnami/nginx/logs/access.log'],
  [/(^|\/)bitnami[a-z]*\/openresty$/, '/opt/bitnami/openresty/nginx/logs/access.log'],
  [/(^|\/)openresty$/, '/usr/local/openresty/nginx/logs/access.log'],
  [/(^|\/)angie$/, '/var/log/angie/access.log'],
  [/(^|\/)(linuxserver|lscr\.io\/linuxserver)\/(nginx|swag)$/, '/config/log/nginx/access.log'],
];
const OFFICIAL_LOG_PATH = '/var/log/nginx/access.log';

/** Controllers that write the addresses of pods, not of Services, into nginx's configuration. */
const CONTROLLER =
  /(^|\/)ingress-nginx\/(kube-webhook-certgen|controller(-chroot)?)$|(^|\/)nginx-ingress-controller$|(^|\/)(nginx|nginxinc|nginx-ic)\/nginx-(plus-)?ingress$/;
/** Other programs with nginx in the name of their images. */
const OTHER_PROGRAM = /exporter|certgen|amplify|logrotate/;

/** Without tag and digest: `localhost:5000/my-nginx:1@sha256:…` is `localhost:5000/my-nginx`. */
function repositoryOf(image: string): string {
  const [name = ''] = image.split('@', 1);
  return name.replace(/:[^/:]*$/, '');
}

const lastPart = (repository: string): string => repository.slice(repository.lastIndexOf('/') + 1);

/** By the last part of the image's name: `nginx:1.29`, `nginxinc/nginx-unprivileged`, `openresty/openresty`. */
export function isNginx(image: unknown): boolean {
  if (typeof image !== 'string') return false;
  const repository = repositoryOf(image);
  const name = lastPart(repository);
  if (OTHER_PROGRAM.test(name)) return false;
  return (
    /nginx|openresty|tengine|(^|-)angie(-|$)/.test(name) || name === 'swag' || isIngressController(image)
  );
}

/** Such a controller logs a pod's address as `$upstream_addr`. */
export function isIngressController(image: unknown): boolean {
  return typeof image === 'string' && CONTROLLER.test(repositoryOf(image));
}

/** Absolute path of the access log in the image's configuration. */
export function logPathOf(image: unknown): string {
  if (typeof image !== 'string') return OFFICIAL_LOG_PATH;
  const repository = repositoryOf(image);
  return LOG_PATHS.find(([pattern]) => pattern.test(repository))?.[1] ?? OFFICIAL_LOG_PATH;
}

/** Whether `logPathOf(image)` is certain: an official image, or one of the table. */
export function isLogPathKnown(image: unknown): boolean {
  if (typeof image !== 'string') return false;
  const repository = repositoryOf(image);
  return (
    LOG_PATHS.some(([pattern]) => pattern.test(repository)) ||
    /(^|\/)(library\/)?nginx$|(^|\/)nginx(inc)?\/nginx-unprivileged$/.test(repository)
  );
}
