/*
 * Devices that connect, as fast as they are let: the load of the benchmarks.
 *
 *   load session|resume|keepalive HOST PORT THREADS SECONDS LIMIT FOLDER FIRST COUNT UDIDS RATE
 *
 * FOLDER/N.pem (FIRST <= N < FIRST + COUNT) is the certificate and key of the device whose UDID is
 * line N of the file UDIDS. A session is: TLS with the client certificate, Idle, and while there is
 * a command its Acknowledged; close. `resume` takes up the TLS session of a first, uncounted
 * round: it prints `ready` after that and goes on when it is given a line.
 * `keepalive` asks Idle over and over on THREADS connections. Ends after SECONDS, or after LIMIT
 * operations if that is not 0, and prints one line of JSON.
 *
 * RATE 0: each thread begins again when it is done. Else sessions begin so many a second, whether
 * those before are done or not, as far as there are threads; `unheard` counts those that the server
 * took no notice of within two seconds, and times are counted from when it did.
 *
 * In C because a client in Python would cost more than the server that it is to measure.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SESSION, RESUME, KEEPALIVE };

struct device {
	char udid[64];
	X509 *certificate;
	EVP_PKEY *key;
	SSL_SESSION *session;
};

struct worker {
	int number;
	long operations, failed, refused, commands, resumed, unheard;
	double *times;
	long kept, room;
};

static int mode, threads, count;
static double rate, start_of_all;
static __thread double heard;
static __thread int silent;
static long limit;
static double ends;
static struct sockaddr_in peer;
static struct device *devices;
static SSL_CTX *context;
static atomic_long begun;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void keep(struct worker *w, double took) {
	if (w->kept == w->room) {
		w->room = w->room ? w->room * 2 : 4096;
		w->times = realloc(w->times, w->room * sizeof(double));
	}
	w->times[w->kept++] = took;
}

static int on_session(SSL *ssl, SSL_SESSION *session) {
	struct device *d = SSL_get_app_data(ssl);
	if (d->session) SSL_SESSION_free(d->session);
	d->session = session;
	return 1;
}

static SSL *dial(struct device *d, int resume) {
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct timeval wait = {20, 0};
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	struct timeval patience = {rate ? 2 : 20, 0};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	silent = 1;
	if (connect(fd, (struct sockaddr *)&peer, sizeof peer)) { close(fd); return NULL; }
	silent = 0;
	heard = now();
	SSL *ssl = SSL_new(context);
	SSL_set_fd(ssl, fd);
	SSL_set_app_data(ssl, d);
	SSL_use_certificate(ssl, d->certificate);
	SSL_use_PrivateKey(ssl, d->key);
	if (resume && d->session) SSL_set_session(ssl, d->session);
	if (SSL_connect(ssl) == 1) return ssl;
	ERR_clear_error();
	SSL_free(ssl);
	close(fd);
	return NULL;
}

static void hang_up(SSL *ssl) {
	int fd = SSL_get_fd(ssl);
	SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
}

/* Sends one report; the HTTP status, or 0. The body is left in `answer`. */
static int report(SSL *ssl, struct device *d, const char *status, const char *uuid, char *answer, int size) {
	static const char *results =
		"<key>QueryResponses</key><dict><key>DeviceName</key><string>Some Mac</string>"
		"<key>OSVersion</key><string>15.2</string><key>BuildVersion</key><string>24C101</string>"
		"<key>ModelName</key><string>MacBook Pro</string><key>Model</key><string>Mac15,3</string>"
		"<key>ProductName</key><string>Mac15,3</string><key>SerialNumber</key><string>C02XG2JJH7G8</string>"
		"<key>DeviceCapacity</key><real>494.384</real><key>AvailableDeviceCapacity</key><real>211.02</real>"
		"<key>IsSupervised</key><true/><key>WiFiMAC</key><string>3c:22:fb:00:00:00</string></dict>";
	char body[4096], head[512];
	int length = snprintf(body, sizeof body,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
		"\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\"><dict>%s%s%s%s"
		"<key>Status</key><string>%s</string><key>UDID</key><string>%s</string></dict></plist>\n",
		uuid ? "<key>CommandUUID</key><string>" : "", uuid ? uuid : "", uuid ? "</string>" : "",
		uuid ? results : "", status, d->udid);
	int lines = snprintf(head, sizeof head,
		"PUT /connect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-apple-aspen-mdm\r\n"
		"User-Agent: MDM-OSX/1.0 mdmclient/1\r\nContent-Length: %d\r\n\r\n", length);
	char both[5120];
	memcpy(both, head, lines);
	memcpy(both + lines, body, length);
	if (SSL_write(ssl, both, lines + length) <= 0) { ERR_clear_error(); return 0; }
	int got = 0;
	for (;;) {
		int more = SSL_read(ssl, answer + got, size - 1 - got);
		if (more <= 0) { ERR_clear_error(); return 0; }
		answer[got += more] = 0;
		char *end = strstr(answer, "\r\n\r\n");
		if (!end) continue;
		char *is = strcasestr(answer, "content-length:");
		int whole = (end + 4 - answer) + (is && is < end ? atoi(is + 15) : 0);
		if (got >= whole) return atoi(answer + 9);
	}
}

/* Finds the CommandUUID of a command; 0 if there is none. */
static int uuid_of(const char *answer, char *uuid) {
	const char *at = strstr(answer, "<key>CommandUUID</key>");
	if (!at || !(at = strstr(at, "<string>"))) return 0;
	return sscanf(at + 8, "%255[^<]", uuid) == 1;
}

static int session(struct worker *w, struct device *d, int resume) {
	char answer[65536], uuid[256];
	SSL *ssl = dial(d, resume);
	if (!ssl) return 0;
	if (SSL_session_reused(ssl)) w->resumed++;
	int status = report(ssl, d, "Idle", NULL, answer, sizeof answer);
	if (status == 200 && uuid_of(answer, uuid)) {
		w->commands++;
		status = report(ssl, d, "Acknowledged", uuid, answer, sizeof answer);
	}
	hang_up(ssl);
	return status;
}

static void *work(void *it) {
	struct worker *w = it;
	char answer[65536];
	SSL *kept = NULL;
	struct device *d = &devices[w->number % count];
	while (now() < ends) {
		long n = atomic_fetch_add(&begun, 1);
		if (limit && n >= limit) break;
		if (rate) {
			double wait = start_of_all + n / rate - now();
			if (wait > 0) usleep(wait * 1e6);
		}
		double start = now();
		int status;
		if (mode == KEEPALIVE) {
			if (!kept) kept = dial(d, 0);
			status = kept ? report(kept, d, "Idle", NULL, answer, sizeof answer) : 0;
			if (kept && !status) { hang_up(kept); kept = NULL; }
		} else {
			status = session(w, &devices[n % count], mode == RESUME);
		}
		if (status == 200) { w->operations++; keep(w, now() - (rate && mode != KEEPALIVE ? heard : start)); }
		else if (status) w->refused++;
		else if (silent) w->unheard++;
		else w->failed++;
	}
	if (kept) hang_up(kept);
	return NULL;
}

/* Gets every device a TLS session to take up. */
static void *warm_up(void *it) {
	struct worker *w = it;
	for (int i = w->number; i < count; i += threads) session(w, &devices[i], 0);
	return NULL;
}

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
	if (argc != 12) { fprintf(stderr, "see the comment in load.c\n"); return 2; }
	mode = !strcmp(argv[1], "session") ? SESSION : !strcmp(argv[1], "resume") ? RESUME : KEEPALIVE;
	signal(SIGPIPE, SIG_IGN);
	peer.sin_family = AF_INET;
	peer.sin_port = htons(atoi(argv[3]));
	inet_pton(AF_INET, argv[2], &peer.sin_addr);
	threads = atoi(argv[4]);
	limit = atol(argv[6]);
	rate = atof(argv[11]);
	int first = atoi(argv[8]);
	count = atoi(argv[9]);
	devices = calloc(count, sizeof *devices);
	FILE *udids = fopen(argv[10], "r");
	for (int n = 0; n < first + count; n++) {
		char line[64];
		if (!udids || !fgets(line, sizeof line, udids)) { fprintf(stderr, "no UDIDs\n"); return 2; }
		if (n < first) continue;
		struct device *d = &devices[n - first];
		line[strcspn(line, "\n")] = 0;
		strcpy(d->udid, line);
		char path[1024];
		snprintf(path, sizeof path, "%s/%d.pem", argv[7], n);
		FILE *pem = fopen(path, "r");
		if (!pem) { perror(path); return 2; }
		d->certificate = PEM_read_X509(pem, NULL, NULL, NULL);
		rewind(pem);
		d->key = PEM_read_PrivateKey(pem, NULL, NULL, NULL);
		fclose(pem);
	}
	context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, on_session);
	if (mode == SESSION) SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	struct worker *workers = calloc(threads, sizeof *workers);
	pthread_t *running = calloc(threads, sizeof *running);
	if (mode == RESUME) {
		/* Whoever measures is told when that is over, so that it is in nobody's figures. */
		for (int i = 0; i < threads; i++) {
			workers[i].number = i;
			pthread_create(&running[i], NULL, warm_up, &workers[i]);
		}
		for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
		memset(workers, 0, threads * sizeof *workers);
		printf("ready\n");
		fflush(stdout);
		if (getchar() == EOF) return 2;
	}
	double start = start_of_all = now();
	ends = start + atof(argv[5]);
	for (int i = 0; i < threads; i++) {
		workers[i].number = i;
		pthread_create(&running[i], NULL, work, &workers[i]);
	}
	struct worker sum = {0};
	for (int i = 0; i < threads; i++) {
		pthread_join(running[i], NULL);
		struct worker *w = &workers[i];
		sum.operations += w->operations; sum.failed += w->failed; sum.refused += w->refused;
		sum.commands += w->commands; sum.unheard += w->unheard; sum.resumed += w->resumed;
		for (long k = 0; k < w->kept; k++) keep(&sum, w->times[k]);
	}
	double took = now() - start;
	qsort(sum.times, sum.kept, sizeof(double), by_size);
#define AT(p) (sum.kept ? sum.times[(long)((sum.kept - 1) * p)] * 1000 : 0.0)
	printf("{\"operations\": %ld, \"failed\": %ld, \"refused\": %ld, \"commands\": %ld, \"resumed\": %ld, "
		"\"unheard\": %ld, \"seconds\": %.3f, \"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f}\n",
		sum.operations, sum.failed, sum.refused, sum.commands, sum.resumed, sum.unheard, took, AT(.5), AT(.95), AT(.99));
	return 0;
}
