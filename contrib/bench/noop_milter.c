/* A milter that does nothing, for the bench's part `milter`: it hears of the end of a message only, of everything without
 * answering, or of everything with an answer to each step. */
#include <libmilter/mfapi.h>
#include <stdlib.h>
#include <string.h>

static int all; /* ask for all replies, as milters do that were written before protocol version 6 */

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address) { return SMFIS_CONTINUE; }
static sfsistat on_helo(SMFICTX *ctx, char *name) { return SMFIS_CONTINUE; }
static sfsistat on_mail(SMFICTX *ctx, char **words) { return SMFIS_CONTINUE; }
static sfsistat on_rcpt(SMFICTX *ctx, char **words) { return SMFIS_CONTINUE; }
static sfsistat on_header(SMFICTX *ctx, char *name, char *value) { return SMFIS_CONTINUE; }
static sfsistat on_eoh(SMFICTX *ctx) { return SMFIS_CONTINUE; }
static sfsistat on_body(SMFICTX *ctx, unsigned char *octets, size_t size) { return SMFIS_CONTINUE; }
static sfsistat on_end(SMFICTX *ctx) { return SMFIS_CONTINUE; }
static sfsistat on_data(SMFICTX *ctx) { return SMFIS_CONTINUE; }

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long more,
    unsigned long last, unsigned long *our_actions, unsigned long *our_steps, unsigned long *our_more,
    unsigned long *our_last)
{
    *our_actions = 0;
    *our_more = *our_last = 0;
    *our_steps = all ? 0 : (steps & (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA |
        SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY));
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc milter = {"noop", SMFI_VERSION, 0, on_connect, on_helo, on_mail, on_rcpt, on_header, on_eoh, on_body,
        on_end, NULL, NULL, NULL, on_data, on_negotiate};

    struct smfiDesc idle = {"noop", SMFI_VERSION, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, on_end, NULL, NULL, NULL,
        NULL, NULL};

    if (argc < 3)
        return 64;
    all = !strcmp(argv[2], "all");
    if (!strcmp(argv[2], "end"))
        milter = idle;
    return smfi_setconn(argv[1]) || smfi_register(milter) ? 1 : smfi_main();
}
