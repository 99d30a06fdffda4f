"""How a client proves who it is, and whom it believes, over TLS.

Relies on the files that the user names; never turns a check off.
"""

import ssl

from pyetcd.client.failure import BadSetting


def tls_context(*, ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Return what https endpoints are asked with; "" for a file means the system's, or none.

    Raises BadSetting for a file that cannot be read or does not hold what it should.
    """
    if bool(cert_file) != bool(key_file):
        raise BadSetting(
            f"KeyFile and CertFile must both be present[key: {key_file}, cert: {cert_file}]"
        )
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"cannot use the CA file {ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise BadSetting(
                f"cannot use the certificate {cert_file} with the key {key_file}: {error}"
            ) from error
    return context
