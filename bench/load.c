/*
 * Devices that connect, as fast as they are let: the load of the benchmarks.
 *
 *   load session|resume|keepalive|enroll HOST PORT THREADS SECONDS LIMIT FOLDER FIRST COUNT UDIDS RATE
 *
 * FOLDER/N.pem (FIRST <= N < FIRST + COUNT) is the certificate and key of the device whose UDID is
 * line N of the file UDIDS. A session is: TLS with the client certificate, Idle, and while there is
 * a command its Acknowledged; close. `resume` takes up the TLS session of a first, uncounted
 * round: it prints `ready` after that and goes on when it is given a line.
 * `keepalive` asks Idle over and over on THREADS connections. Ends after SECONDS, or after LIMIT
 * operations if that is not 0, and prints one line of JSON.
 * `enroll` is for devices that have no certificate yet: FOLDER/N.scep is the SCEP request (PKCSReq),
 * made beforehand, and FOLDER/FIRST.key the RSA key that is in all of them. It asks for the CA's
 * certificate, then for its own, on one connection; Authenticate and TokenUpdate, for the topic in
 * the environment, go on another one.
 *
 * RATE 0: each thread begins again when it is done. Else sessions begin so many a second, whether
 * those before are done or not, as far as there are threads; `unheard` counts those that the server
 * took no notice of within two seconds, and times are counted from when it did. The times of the
 * first three seconds are left out: a burst is served, however long that takes.
 *
 * In C because a client in Python would cost more than the server that it is to measure.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/cms.h>
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

enum { SESSION, RESUME, KEEPALIVE, ENROLL };

#define BURST 3  /* seconds */

struct device {
	char udid[64];
	X509 *certificate;
	EVP_PKEY *key;
	SSL_SESSION *session;
	char *request; /* for SCEP */
	int length;
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
	if (d->certificate) {
		SSL_use_certificate(ssl, d->certificate);
		SSL_use_PrivateKey(ssl, d->key);
	}
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

#define PLIST(inside) \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" " \
	"\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\"><dict>" inside "</dict></plist>\n"
#define STRING(key, value) "<key>" key "</key><string>" value "</string>"

/* Asks one thing; the HTTP status, or 0. The answer is left in `answer`, the length of its body in
 * `behind`; the body is at its end. */
static int ask(SSL *ssl, const char *what, const char *type, const char *body, int length,
	char *answer, int size, int *whole, int *behind) {
	char both[16384];
	int lines = snprintf(both, sizeof both,
		"%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
		"User-Agent: MDM-OSX/1.0 mdmclient/1\r\nContent-Length: %d\r\n\r\n", what, type, length);
	if (lines + length > (int)sizeof both) return 0;
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
		*behind = is && is < end ? atoi(is + 15) : 0;
		*whole = (end + 4 - answer) + *behind;
		if (got >= *whole) return atoi(answer + 9);
	}
}

/* Sends one report; the HTTP status, or 0. The body is left in `answer`. */
static int report(SSL *ssl, struct device *d, const char *status, const char *uuid, char *answer, int size) {
	static const char *results =
		"<key>QueryResponses</key><dict>" STRING("DeviceName", "Some Mac") STRING("OSVersion", "15.2")
		STRING("BuildVersion", "24C101") STRING("ModelName", "MacBook Pro") STRING("Model", "Mac15,3")
		STRING("ProductName", "Mac15,3") STRING("SerialNumber", "C02XG2JJH7G8")
		"<key>DeviceCapacity</key><real>494.384</real><key>AvailableDeviceCapacity</key><real>211.02</real>"
		"<key>IsSupervised</key><true/>" STRING("WiFiMAC", "3c:22:fb:00:00:00") "</dict>";
	char body[4096];
	int whole, behind;
	int length = snprintf(body, sizeof body, PLIST("%s%s%s%s" STRING("Status", "%s") STRING("UDID", "%s")),
		uuid ? "<key>CommandUUID</key><string>" : "", uuid ? uuid : "", uuid ? "</string>" : "",
		uuid ? results : "", status, d->udid);
	return ask(ssl, "PUT /connect", "application/x-apple-aspen-mdm", body, length, answer, size, &whole, &behind);
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

/* Takes the certificate out of the answer of SCEP; NULL if it is not in there. */
static X509 *granted(struct device *d, const char *body, int length) {
	const unsigned char *at = (const unsigned char *)body;
	X509 *found = NULL;
	CMS_ContentInfo *reply = d2i_CMS_ContentInfo(NULL, &at, length), *sealed = NULL, *bag = NULL;
	ASN1_OCTET_STRING **inside = reply ? CMS_get0_content(reply) : NULL;
	if (inside && *inside) {
		at = ASN1_STRING_get0_data(*inside);
		sealed = d2i_CMS_ContentInfo(NULL, &at, ASN1_STRING_length(*inside));
	}
	BIO *open = BIO_new(BIO_s_mem());
	if (sealed && CMS_decrypt(sealed, d->key, NULL, NULL, open, CMS_BINARY)) bag = d2i_CMS_bio(open, NULL);
	STACK_OF(X509) *all = bag ? CMS_get1_certs(bag) : NULL;
	for (int n = 0; n < sk_X509_num(all) && !found; n++) {
		X509 *each = sk_X509_value(all, n);
		if (X509_check_private_key(each, d->key)) X509_up_ref(found = each);
	}
	sk_X509_pop_free(all, X509_free);
	BIO_free(open);
	CMS_ContentInfo_free(bag);
	CMS_ContentInfo_free(sealed);
	CMS_ContentInfo_free(reply);
	ERR_clear_error();
	return found;
}

/* Gets a device its certificate; the HTTP status, or 0. */
static int identify(struct device *d) {
	char answer[65536];
	int whole, behind;
	SSL *ssl = dial(d, 0);
	if (!ssl) return 0;
	int status = ask(ssl, "GET /scep?operation=GetCACert", "text/plain", "", 0, answer, sizeof answer, &whole, &behind);
	if (status == 200)
		status = ask(ssl, "POST /scep?operation=PKIOperation", "application/x-pki-message",
			d->request, d->length, answer, sizeof answer, &whole, &behind);
	hang_up(ssl);
	/* A refusal is a 200, too. */
	if (status == 200 && !(d->certificate = granted(d, answer + whole - behind, behind))) return 1;
	return status;
}

/* Authenticate and TokenUpdate; the HTTP status, or 0. */
static int check_in(struct device *d, const char *topic) {
	char body[4096], answer[4096];
	int whole, behind;
	SSL *ssl = dial(d, 0);
	if (!ssl) return 0;
	int length = snprintf(body, sizeof body, PLIST(STRING("BuildVersion", "24C101") STRING("DeviceName", "Some Mac")
		STRING("MessageType", "Authenticate") STRING("Model", "Mac15,3") STRING("ModelName", "MacBook Pro")
		STRING("OSVersion", "15.2") STRING("ProductName", "Mac15,3") STRING("SerialNumber", "C02X%.8s")
		STRING("Topic", "%s") STRING("UDID", "%s")), d->udid + strlen(d->udid) - 8, topic, d->udid);
	int status = ask(ssl, "PUT /checkin", "application/x-apple-aspen-mdm-checkin", body, length,
		answer, sizeof answer, &whole, &behind);
	if (status == 200) {
		length = snprintf(body, sizeof body, PLIST("<key>AwaitingConfiguration</key><false/>"
			STRING("MessageType", "TokenUpdate") STRING("PushMagic", "%s")
			"<key>Token</key><data>dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHQ=</data>"
			STRING("Topic", "%s") STRING("UDID", "%s")), d->udid, topic, d->udid);
		status = ask(ssl, "PUT /checkin", "application/x-apple-aspen-mdm-checkin", body, length,
			answer, sizeof answer, &whole, &behind);
	}
	hang_up(ssl);
	return status;
}

static int enroll(struct device *d) {
	int status = identify(d);
	return status == 200 ? check_in(d, getenv("TOPIC")) : status;
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
		} else if (mode == ENROLL) {
			status = enroll(&devices[n % count]);
		} else {
			status = session(w, &devices[n % count], mode == RESUME);
		}
		int paced = rate && mode != KEEPALIVE;
		if (status == 200) {
			w->operations++;
			if (!paced || heard > start_of_all + BURST) keep(w, now() - (paced ? heard : start));
		}
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

/* Opens FOLDER/N.KIND. */
static FILE *open_file(const char *folder, int n, const char *kind) {
	char path[1024];
	snprintf(path, sizeof path, "%s/%d.%s", folder, n, kind);
	FILE *file = fopen(path, "r");
	if (!file) { perror(path); exit(2); }
	return file;
}

static void read_identity(struct device *d, const char *folder, int n) {
	FILE *pem = open_file(folder, n, "pem");
	d->certificate = PEM_read_X509(pem, NULL, NULL, NULL);
	rewind(pem);
	d->key = PEM_read_PrivateKey(pem, NULL, NULL, NULL);
	fclose(pem);
}

static void read_request(struct device *d, const char *folder, int n) {
	static EVP_PKEY *key; /* one is in all requests */
	if (!key) {
		FILE *pem = open_file(folder, n, "key");
		key = PEM_read_PrivateKey(pem, NULL, NULL, NULL);
		fclose(pem);
	}
	d->key = key;
	d->request = malloc(8192);
	FILE *request = open_file(folder, n, "scep");
	d->length = fread(d->request, 1, 8192, request);
	fclose(request);
}

static double worked(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
	if (argc != 12) { fprintf(stderr, "see the comment in load.c\n"); return 2; }
	mode = !strcmp(argv[1], "session") ? SESSION : !strcmp(argv[1], "resume") ? RESUME
		: !strcmp(argv[1], "enroll") ? ENROLL : KEEPALIVE;
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
		if (mode == ENROLL) read_request(d, argv[7], n);
		else read_identity(d, argv[7], n);
	}
	context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, on_session);
	if (mode == SESSION || mode == ENROLL) SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
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
	double start = start_of_all = now(), idle = worked();
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
	double took = now() - start, cpu = worked() - idle;
	qsort(sum.times, sum.kept, sizeof(double), by_size);
#define AT(p) (sum.kept ? sum.times[(long)((sum.kept - 1) * p)] * 1000 : 0.0)
	printf("{\"operations\": %ld, \"failed\": %ld, \"refused\": %ld, \"commands\": %ld, \"resumed\": %ld, "
		"\"unheard\": %ld, \"seconds\": %.3f, \"cpu\": %.3f, \"p50\": %.3f, \"p95\": %.3f, \"p99\": %.3f}\n",
		sum.operations, sum.failed, sum.refused, sum.commands, sum.resumed, sum.unheard, took, cpu, AT(.5), AT(.95), AT(.99));
	return 0;
}
