<?php
// Answers who it is; .htaccess sends every path here.
$me = json_decode(getenv('VCAP_APPLICATION') ?: '{}', true);
if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) === '/crash') {
    // The server's parent first, or it would start another worker. 9 is SIGKILL, which PHP names on the command line only.
    posix_kill(posix_getppid(), 9);
    posix_kill(posix_getpid(), 9);
}
header('Content-Type: application/json');
echo json_encode([
    'framework' => 'php', 'name' => $me['name'] ?? null, 'version' => $me['version'] ?? null,
    'instance' => $me['instance_index'] ?? null, 'instance_id' => $me['instance_id'] ?? null,
    'dea' => getenv('VCAP_APP_HOST') ?: null, 'port' => getenv('PORT') ?: null, 'runtime' => PHP_VERSION,
    'path' => parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH), 'memory_limit' => ini_get('memory_limit'),
    'greeting' => getenv('GREETING') ?: null,
]), "\n";
