# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Sign-in: checks tokens of the OpenID Connect server that MONAI Label's settings name.

MONAI Label 0.8.5 refuses every token, since it names no algorithm and PyJWT 2 needs one. This module replaces that
check and the route by which people sign in. Settings, users and roles stay MONAI Label's.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Annotated, Any

import jwt
import requests
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import Token, User, get_current_user, oauth2_scheme

__all__ = ["accept_tokens", "make_sign_in_router"]

logger = logging.getLogger(__name__)


def accept_tokens(server: FastAPI) -> None:
    """Let :func:`verified_user` check the tokens of every request, those to MONAI Label's own routes too."""
    server.dependency_overrides[get_current_user] = verified_user


def verified_user(token: str = Depends(oauth2_scheme)) -> User:
    """Check an access token, and return its user.

    Raises:
        HTTPException: 401 for a token that is invalid, foreign or expired; 503 if the server's keys can't be fetched.

    Source:
        OpenID Connect Discovery 1.0, section 4; RFC 7519; RFC 8725, section 3.1: the key determines the algorithm.
    """
    try:
        realm = _realm()
        key = _keys(realm["jwks_uri"]).get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=realm["issuer"],
            # The audience is not checked: MONAI Label has no setting for it.
            options={"verify_aud": False, "require": ["exp", "iss"]},
        )
    except (requests.RequestException, jwt.PyJWKClientConnectionError) as error:
        raise _unreachable(error) from error
    except jwt.PyJWTError as error:
        raise HTTPException(401, "sign in again.", {"WWW-Authenticate": "Bearer"}) from error
    return User(
        username=claims.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME) or claims.get("sub", ""),
        email=claims.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL),
        name=claims.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME),
        roles=_roles(claims),
    )


def _unreachable(error: Exception) -> HTTPException:
    logger.error("the sign-in server does not answer: %s", error)
    return HTTPException(503, "the sign-in server can't be reached; the administrator may know why.")


def _roles(claims: dict[str, Any]) -> list[str]:
    found: Any = claims
    for name in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        found = found.get(name) if isinstance(found, dict) else None
    return [str(role) for role in found] if isinstance(found, list) else []


@lru_cache(1)
def _realm() -> dict[str, Any]:
    address = settings.MONAI_LABEL_AUTH_REALM_URI.rstrip("/") + "/.well-known/openid-configuration"
    answer = requests.get(address, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
    answer.raise_for_status()
    return dict(answer.json())


@lru_cache(1)
def _keys(address: str) -> jwt.PyJWKClient:
    """Fetch the server's public keys, again every five minutes and when a token names an unknown key."""
    return jwt.PyJWKClient(address, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)


def make_sign_in_router() -> APIRouter:
    """Make the route ``POST /auth/token``, which passes name and password of a user on to the sign-in server."""
    router = APIRouter(prefix="/auth", tags=["Auth"])

    @router.post("/token", response_model=Token)
    def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, Any]:
        asked = {
            "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
            "grant_type": "password",
            "username": form.username,
            "password": form.password,
        }
        try:
            answer = requests.post(_realm()["token_endpoint"], asked, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
            # RFC 6749, section 5.2: 400 or 401 for a wrong name or password.
            if answer.status_code in (400, 401):
                logger.warning("a sign-in was refused: %s", answer.text[:200])
                raise HTTPException(401, "user and password were not accepted.")
            answer.raise_for_status()
            return dict(answer.json())
        except requests.RequestException as error:
            raise _unreachable(error) from error

    return router
